"""What one deployment accepts, and what computes in it: `parameters` of its `config.pbtxt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Final

from sam_refine.contract.checks import choice, integer

MAX_SCORE: Final = 1e30
"""Largest magnitude of a class score: sums and differences of such stay finite in float32."""
MAX_MESSAGE_BYTES: Final = 2**31 - 1
"""What one gRPC message can carry; no tensor may be larger."""
NETWORKS_SHA256: Final = "networks_sha256"
"""The parameter of `sam_refine/config.pbtxt` with one checksum of all graphs of the repository."""


@dataclass(frozen=True)
class Limits:
    """What one deployment accepts: `parameters` of `sam_refine/config.pbtxt`, by field name."""

    max_image_pixels: int = 8192 * 8192
    """H * W of an image."""
    max_image_side: int = 16384
    """H and W of an image."""
    max_classes: int = 4096
    """C of the scores."""
    max_grid_scores: int = 2**28
    """C * h_d * w_d: class scores on the working grid."""
    max_regions: int = 4096
    """Q: regions of one coarse map; each is a prompt for the decoder."""
    max_cached_embeddings: int = field(default=64, metadata={"minimum": 0})
    """Image embeddings kept for later requests on the same image, 4 MiB each; 0 keeps none."""
    allow_image_ids: int = field(default=0, metadata={"minimum": 0, "maximum": 1})
    """1 believes callers' names of images, which all callers share: whoever knows a name, or gives
    the same to another picture, gets the first one's embedding. 0 goes by an image's content."""
    bytes_per_prompt: int = 250_000_000
    """Free memory that a prompt asks for in a call of the decoder, of up to 32 prompts. The listing
    has 3e9; the exported decoder takes 3.7e7, measured, and the rest is for other work on the
    device. No result depends on it."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            minimum = limit.metadata.get("minimum", 1)
            maximum = limit.metadata.get("maximum")
            value = integer(limit.name, getattr(self, limit.name), minimum, maximum)
            object.__setattr__(self, limit.name, value)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> Limits:
        """Read a model's config parameters; names that are no limits are left to others."""
        known = {limit.name for limit in fields(cls)}
        return cls(**{k: v for k, v in parameters.items() if k in known})  # type: ignore[arg-type]


class ArrayLibrary(str, Enum):
    """What computes in a deployment: `array_library` of `sam_refine/config.pbtxt`."""

    NUMPY = "numpy"
    """On the CPU; embeddings and masks of networks on a GPU are copied to it."""
    TORCH = "torch"
    """On the GPU if torch sees one, so that those stay there; else on the CPU."""

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> ArrayLibrary:
        """Read a model's config parameters; without one it is numpy."""
        name = parameters.get("array_library", cls.NUMPY.value)
        return choice("array_library", name, cls, "numpy or torch")
