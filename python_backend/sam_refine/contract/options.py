"""Options of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final

import numpy as np

from sam_refine.contract.checks import (
    InvalidRequestError,
    boolean,
    choice,
    integer,
    number,
    shown,
)
from sam_refine.contract.tensors import MAX_SCORE

IMAGE_ID: Final = "image_id"
"""Request parameter: the caller's own name of an image, 1 to 256 characters. A later request with
the same name and image size takes the embedding of the first and does not look at its pixels."""
MAX_IMAGE_ID: Final = 256
_INT32: Final = np.iinfo(np.int32)


class MaskPrompt(str, Enum):
    """How a class's scores go to SAM as a mask prompt."""

    NONE = "none"
    """No mask prompt: SAM's own no-mask embedding."""
    SAM = "sam"
    """As Meta wrote it: layer norms over channels."""
    TRIDENT = "trident"
    """As the published code calls it, without the batch axis: layer norms over image rows."""


class FailedRegions(str, Enum):
    """What happens where a region's predicted IoU was too low."""

    SCORES_ONLY = "scores_only"
    """Coarse scores return to the refined scores; labels stay as refined (as published)."""
    COMPETE = "compete"
    """Also, the coarse label wins where max_c L > max_c L' (a tie keeps the refined label)."""
    KEEP_COARSE = "keep_coarse"
    """Also, every failed region keeps its coarse label."""


@dataclass(frozen=True)
class RefineOptions:
    """Options of one request; the defaults are the algorithm as published.

    Raises `InvalidRequestError` for a value outside its range.
    """

    downsample_ratio: int = field(default=2, metadata={"range": (1, 64)})
    """r: the working grid has one cell for r x r pixels."""
    confidence_threshold: float = field(default=0.0, metadata={"range": (0.0, MAX_SCORE)})
    """tau_c: scores below it belong to no region. 0 switches the reject class off."""
    iou_threshold: float = field(default=0.8, metadata={"range": (0.0, 1.0)})
    """tau_iou: a region is kept where SAM's predicted IoU is greater."""
    mask_prompt: MaskPrompt = MaskPrompt.TRIDENT
    """Default as published; on CamVid it also measured better than `sam` at every threshold."""
    mask_prompt_scale: float = field(default=0.005, metadata={"range": (0.0, 1e6)})
    """tau_m: factor of the mask prompt."""
    min_region_area: int = field(default=0, metadata={"range": (0, _INT32.max)})
    """Smaller components, in grid cells, are no regions. The published runs used 225."""
    failed_regions: FailedRegions = FailedRegions.SCORES_ONLY
    multimask_output: bool = False
    """Take the best of SAM's masks 1..3 by predicted IoU instead of its single mask 0."""
    max_regions: int | None = field(default=None, metadata={"range": (1, _INT32.max)})
    """Refuse maps of more regions; None leaves it to the deployment's limit."""
    ignore_label: int | None = field(default=None, metadata={"range": (_INT32.min, _INT32.max)})
    """Pixels of this label are never split and keep it; it may lie outside [0, C)."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        for name in ("downsample_ratio", "min_region_area"):
            set_(self, name, integer(name, getattr(self, name), *self.range_of(name)))
        for name in ("confidence_threshold", "iou_threshold", "mask_prompt_scale"):
            set_(self, name, number(name, getattr(self, name), *self.range_of(name)))
        set_(self, "mask_prompt", choice("mask_prompt", self.mask_prompt, MaskPrompt))
        set_(self, "failed_regions", choice("failed_regions", self.failed_regions, FailedRegions))
        set_(self, "multimask_output", boolean("multimask_output", self.multimask_output))
        for name in ("max_regions", "ignore_label"):
            if getattr(self, name) is not None:
                set_(self, name, integer(name, getattr(self, name), *self.range_of(name)))

    @classmethod
    def range_of(cls, name: str) -> tuple[Any, Any]:
        """Lowest and highest value of an option that is a number; raises `KeyError` for others."""
        for option in fields(cls):
            if option.name == name and "range" in option.metadata:
                low, high = option.metadata["range"]
                return low, high
        raise KeyError(f"{name} is no option with a range")

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> RefineOptions:
        """Read request parameters; a value may also come as its decimal text.

        Raises `InvalidRequestError` for an unknown name or a value outside its range.
        """
        known = {option.name for option in fields(cls)}
        for name in parameters:
            if name not in known:
                raise InvalidRequestError(
                    f"parameter {shown(name)} is not an option; the options are "
                    f"{', '.join(sorted(known))}, and {IMAGE_ID} beside them"
                )
        return cls(**dict(parameters))  # type: ignore[arg-type]

    def to_parameters(self) -> dict[str, str | int | float | bool]:
        """As request parameters; options that are None are left out."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in values.items()
            if value is not None
        }
