"""What a call returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sam_refine.contract import STAGES

Labels = npt.NDArray[np.int32]


REGION_TENSORS: Final = (
    "REGION_CLASSES",
    "REGION_BOXES",
    "REGION_SCORES",
    "REGION_IOUS",
    "REGION_KEPT",
)


@dataclass(frozen=True)
class Embedding:
    """What SAM's encoder makes of an image; refines any number of maps of it."""

    values: npt.NDArray[np.float32]
    """(1, 256, 64, 64)."""
    size_hw: tuple[int, int]
    """(H, W) of the image."""


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
    timings: dict[str, float]
    """Milliseconds on the server by stage of `sam_refine.contract.STAGES`."""
    request_id: str
    """The request's name in the server's log and traces."""

    @property
    def changed(self) -> npt.NDArray[np.bool_]:
        """(H, W) where the refined map differs from the coarse one.

        Raises `ValueError` where one of the two was not asked for.
        """
        if self.labels is None or self.coarse_labels is None:
            raise ValueError('changed needs the outputs "labels" and "coarse_labels"')
        changed: npt.NDArray[np.bool_] = self.labels != self.coarse_labels
        return changed

    @property
    def changed_fraction(self) -> float:
        """Share of the pixels that changed; raises as `changed` does."""
        return float(self.changed.mean())


def result_of(tensors: dict[str, npt.NDArray[Any]], request_id: str) -> RefineResult:
    """The outputs of `contract.SAM_REFINE` that came."""
    return RefineResult(
        labels=_labels(tensors, "REFINED_LABELS"),
        coarse_labels=_labels(tensors, "COARSE_LABELS"),
        logits=tensors.get("REFINED_LOGITS"),
        regions=_regions(tensors) if "REGION_KEPT" in tensors else None,
        timings=dict(zip(STAGES, tensors["STAGE_TIMES_MS"].tolist(), strict=True)),
        request_id=request_id,
    )


def _labels(tensors: dict[str, npt.NDArray[Any]], name: str) -> Labels | None:
    labels = tensors.get(f"{name}_UINT8", tensors.get(name))
    return None if labels is None else labels.astype(np.int32, copy=False)


def _regions(tensors: dict[str, npt.NDArray[Any]]) -> tuple[Region, ...]:
    columns = (tensors[name].tolist() for name in REGION_TENSORS)
    return tuple(
        Region(class_id, tuple(box), score, predicted_iou, kept)
        for class_id, box, score, predicted_iou, kept in zip(*columns, strict=True)
    )
