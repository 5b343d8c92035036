"""What the labels of an image should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError
from sam_refine_quality.metrics.borders import (
    AnyLabels,
    Mask,
    boundary,
    boundary_distance_px,
    near_border,
)

BORDER_PX: Final = 3.0
"""How far from a border of the truth border accuracy looks."""
BOUNDARY_SHARE: Final = 0.02
"""d of Boundary IoU, as a share of the image's diagonal: as published."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of an image, and what of it serves for every map that is held against it."""

    labels: npt.NDArray[np.int32]
    """(H, W) class ids; void is C + 1."""
    classes: int
    """C."""
    valid: Mask
    """(H, W) whether the pixel counts: it is not void."""
    near_border: Mask
    """(H, W) whether it counts, and is within `BORDER_PX` of a border of the truth."""
    boundary: Mask
    """(H, W) whether it counts, and belongs to the boundary of its class's mask."""
    boundary_px: int
    """d of Boundary IoU."""

    @classmethod
    def of(
        cls, labels: AnyLabels, classes: int, ignore_label: int | None = None, name: str = "truth"
    ) -> Truth:
        """`labels` (H, W) are class ids in [0, C), or `ignore_label` where the pixel is void.

        Raises `InvalidRequestError`, which begins with `name`, for anything else. Void beside a
        class is a border as that between two classes is.
        """
        check_labels(labels, name)
        valid = np.ones(labels.shape, np.bool_) if ignore_label is None else labels != ignore_label
        wrong = valid & ((labels < 0) | (labels >= classes))
        if wrong.any():
            void = "" if ignore_label is None else f" or {ignore_label}, which is void"
            raise InvalidRequestError(
                f"{name} must have labels in [0, {classes}){void}, got {labels[wrong][0]}"
            )
        filled = np.where(valid, labels, classes + 1).astype(np.int32)
        distance_px = boundary_distance_px((labels.shape[0], labels.shape[1]), BOUNDARY_SHARE)
        return cls(
            filled,
            classes,
            valid,
            valid & near_border(filled, BORDER_PX),
            valid & boundary(filled, distance_px),
            distance_px,
        )

    def read(self, labels: AnyLabels, name: str) -> npt.NDArray[np.int32]:
        """A map (H, W) as it is held against this truth: void where the truth is, and C for what is
        no class.

        Raises `InvalidRequestError` for a map of another size.
        """
        check_labels(labels, name)
        if labels.shape != self.labels.shape:
            raise InvalidRequestError(
                f"{name} must be {self.labels.shape} like the truth, got {labels.shape}"
            )
        is_class = (labels >= 0) & (labels < self.classes)
        known = np.where(is_class, labels, self.classes)
        return np.where(self.valid, known, self.classes + 1).astype(np.int32)


def check_labels(labels: npt.NDArray[Any], name: str) -> None:
    """Raise `InvalidRequestError` unless it is a map (H, W) of integers, with pixels."""
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise InvalidRequestError(
            f"{name} must have shape (H, W), H and W at least 1, and integers, "
            f"got {labels.shape} {labels.dtype}"
        )
