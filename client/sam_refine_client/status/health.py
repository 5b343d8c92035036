"""Whether a server works: what it says about itself, and a canary through all its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sam_refine_client.embedding import Embedding
from sam_refine_client.errors import (
    CancelledError,
    DeadlineError,
    RefineError,
    UnreachableError,
)
from sam_refine_client.result import RefineResult


@dataclass(frozen=True)
class Health:
    """What was found; `problems` say what to do about it."""

    is_live: bool
    """The server answers."""
    is_ready: bool
    """The server says that all its models are ready."""
    models: dict[str, bool]
    """Whether each model of sam-refine is ready, by name, a judge where there is one; empty if the
    server does not answer. In local mode these are the networks."""
    canary_ms: float | None
    """Milliseconds until the canary was back: an image to its embedding, then a refined map. None
    if it was not sent, or failed."""
    problems: tuple[str, ...]
    """What is wrong and what to do about it, one line each."""

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True)
class Readiness:
    """What a server says about itself: `Health` without the canary."""

    is_live: bool
    is_ready: bool
    models: dict[str, bool]
    problems: tuple[str, ...]


_ADVICE: Final[dict[type[RefineError], str]] = {
    UnreachableError: "does `sam-refine serve` run there, is this its gRPC port (8001 unless told "
    "otherwise), and do TLS and certificates fit on both sides?",
    DeadlineError: "give it more time, or the server less work",
    CancelledError: "was the client closed meanwhile?",
}
"""Replaces the error's own advice, which is to call `health`."""


def problem(what: str, error: RefineError | OSError) -> str:
    """One line: what failed, why, and what to do."""
    if not isinstance(error, RefineError):
        return f"{what}: {error}"
    advice = _ADVICE.get(type(error), error.advice)
    message = " ".join(error.message.split())
    return f"{what}: {message}; {advice}" if advice else f"{what}: {message}"


# --- The canary ------------------------------------------------------------------------------

_SIDE: Final = 64
_SQUARE: Final = slice(16, 48)


def canary_image() -> npt.NDArray[np.uint8]:
    """(64, 64, 3): a light square on a dark background."""
    image = np.full((_SIDE, _SIDE, 3), 40, np.uint8)
    image[_SQUARE, _SQUARE] = 220
    return image


def canary_scores() -> npt.NDArray[np.float32]:
    """(2, 64, 64): class 1 in the square, class 0 around it."""
    square = np.full((_SIDE, _SIDE), 0.25, np.float32)
    square[_SQUARE, _SQUARE] = 0.75
    return np.stack([1 - square, square])


def wrong_in_canary(embedding: Embedding, result: RefineResult) -> str | None:
    """What a server that works would not have answered; None if all is well."""
    if not np.isfinite(embedding.values).all():
        return "the embedding of the canary has values that are not finite; export the models anew"
    regions: Any = result.regions or ()
    if [region.class_id for region in regions] != [0, 1]:
        return (
            f"the canary has regions of the classes 0 and 1, the answer has {len(regions)} of "
            f"{[region.class_id for region in regions]}; are client and server of one version "
            "(`sam-refine info`)?"
        )
    if not all(np.isfinite(region.predicted_iou) for region in regions):
        return "the predicted IoUs of the canary are not finite; export the models anew"
    return None
