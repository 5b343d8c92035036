"""What a call returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Region:
    """One region of the coarse map."""

    class_id: int
    box_xyxy: tuple[int, int, int, int]
    """x_min, y_min, x_max, y_max in image pixels: cells of the working grid times r."""
    score: float
    """Mean coarse score."""
    predicted_iou: float
    kept: bool
    """Whether `predicted_iou` is above `iou_threshold`."""


@dataclass(frozen=True)
class RefineResult:
    """What the call asked for; the rest is None."""

    labels: Labels | None
    """(H, W) refined map."""
    coarse_labels: Labels | None
    """(H, W) the map that was refined."""
    logits: npt.NDArray[np.float32] | None
    """(C, H, W) refined class scores."""
    regions: tuple[Region, ...] | None
    """Every region of the coarse map, kept or failed, by class id, then raster order."""
    stage_times_ms: dict[str, float]
    """Milliseconds on the server by stage of `sam_refine.contract.STAGES`."""
