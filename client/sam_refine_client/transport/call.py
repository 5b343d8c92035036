"""One request to a model, and what can carry it there.

There are two transports: gRPC to a server (`grpc`), and the networks in this process (`local`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from sam_refine.contract import ModelSpec, Tensors
from sam_refine_client.deadline import remaining_s
from sam_refine_client.errors import DeadlineError, RefineError
from sam_refine_client.status.health import Readiness
from sam_refine_client.status.info import ServerInfo
from sam_refine_client.steps.steps import Steps


@dataclass(frozen=True)
class Call:
    """One request to a model."""

    model: ModelSpec
    tensors: Tensors
    outputs: tuple[str, ...]
    parameters: Mapping[str, str | int | float | bool]
    request_id: str
    deadline_s: float | None
    """By `time.monotonic`."""
    begun_s: float = field(default_factory=time.monotonic)

    def remaining_s(self) -> float | None:
        """Seconds left. Raises `DeadlineError` if there are none."""
        try:
            return remaining_s(self.deadline_s)
        except DeadlineError as error:
            raise self.failed(DeadlineError, error.message) from None

    def is_over_in(self, seconds: float) -> bool:
        """Whether the deadline will have passed."""
        return self.deadline_s is not None and time.monotonic() + seconds >= self.deadline_s

    def known_sizes(self) -> dict[str, int]:
        """The contract's letters whose size the tensors tell, such as H, W and C."""
        sizes = {
            letter: size
            for spec in self.model.inputs
            if spec.name in self.tensors
            for letter, size in zip(spec.shape, self.tensors[spec.name].shape, strict=True)
            if isinstance(letter, str)
        }
        if "IMAGE_SIZE" in self.tensors:
            sizes["H"], sizes["W"] = self.tensors["IMAGE_SIZE"].tolist()
        return sizes

    def failed(self, kind: type[RefineError], message: str) -> RefineError:
        """An error that names this call."""
        return kind(message, model=self.model.name, request_id=self.request_id)


class Transport(Protocol):
    """What a client sends its calls through."""

    def infer(self, call: Call) -> Steps[Tensors]:
        """The outputs by name. Raises `RefineError`."""

    def info(self, deadline_s: float | None) -> Steps[ServerInfo]:
        """What the other side is: versions, models, limits. Raises `RefineError`."""

    def readiness(self, deadline_s: float | None) -> Steps[Readiness]:
        """Whether it is ready for calls; raises nothing."""

    def close(self) -> Steps[None]:
        """Release what it holds."""

    def same_image(self) -> AbstractContextManager[None]:
        """Inside the block many maps of one image are refined, then of the next."""

    def begin_in_fork(self) -> None:
        """Leave what it holds to the parent process."""
