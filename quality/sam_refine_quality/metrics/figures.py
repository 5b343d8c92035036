"""Figures in percent, made of sums over pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from sam_refine_quality.metrics.statistics import ChangeSums, MapSums, Numbers

F = TypeVar("F", bound="Figures")

FIGURE_NAMES: Final = {
    "miou": "mIoU",
    "accuracy": "pixel accuracy",
    "border_accuracy": "accuracy at borders",
    "boundary_iou": "boundary IoU",
}
"""Those of a map that are one number, and what people call them."""


@dataclass(frozen=True, eq=False)
class Figures:
    """Arrays (...) or (..., C) of percentages; NaN where there is nothing to make one of."""

    def each(self: F, change: Callable[[Numbers], Numbers]) -> F:
        """Every array changed in the same way."""
        return type(self)(
            **{field.name: change(getattr(self, field.name)) for field in fields(self)}
        )


@dataclass(frozen=True, eq=False)
class MapFigures(Figures):
    """How good a map is."""

    miou: Numbers
    """(...) mean of `iou_by_class` over the classes that occur in the truth."""
    accuracy: Numbers
    """(...) share of the pixels whose label is right."""
    border_accuracy: Numbers
    """(...) the same of the pixels within three pixels of a border of the truth."""
    boundary_iou: Numbers
    """(...) mean over the classes that occur in the truth."""
    iou_by_class: Numbers
    """(..., C) intersection over union; NaN for a class that does not occur in the truth."""

    @classmethod
    def of(cls, sums: MapSums) -> MapFigures:
        """Of an image, a data set, or many of them."""
        occurs = sums.in_truth > 0
        iou = _percent(sums.right, sums.in_truth + sums.in_map - sums.right)
        boundary_iou = _percent(sums.boundary_right, sums.boundary_any)
        return cls(
            miou=_mean(iou, occurs),
            accuracy=_percent(sums.right.sum(axis=-1), sums.in_truth.sum(axis=-1)),
            border_accuracy=_percent(sums.border_right, sums.border),
            boundary_iou=_mean(boundary_iou, occurs),
            iou_by_class=np.where(occurs, iou, np.nan),
        )

    def minus(self, other: MapFigures) -> MapFigures:
        """The differences, in percentage points."""
        return MapFigures(
            **{
                field.name: getattr(self, field.name) - getattr(other, field.name)
                for field in fields(self)
            }
        )


@dataclass(frozen=True, eq=False)
class ChangeFigures(Figures):
    """What refinement changed, and whether that was right."""

    fraction: Numbers
    """(...) share of the pixels whose label is another one than in the coarse map."""
    made_right: Numbers
    """(...) share of these whose label is right now."""
    made_wrong: Numbers
    """(...) share of these whose label was right before."""

    @classmethod
    def of(cls, sums: ChangeSums) -> ChangeFigures:
        """Of an image, a data set, or many of them."""
        return cls(
            fraction=_percent(sums.changed, sums.valid),
            made_right=_percent(sums.made_right, sums.changed),
            made_wrong=_percent(sums.made_wrong, sums.changed),
        )


def _percent(part: Numbers, whole: Numbers) -> Numbers:
    """100 part / whole, NaN where there is no whole."""
    shares = np.full(np.shape(whole), np.nan)
    return np.divide(100 * part, whole, out=shares, where=whole > 0)


def _mean(values: Numbers, counts: npt.NDArray[np.bool_]) -> Numbers:
    """The mean over the last axis of what counts, NaN where nothing does."""
    many = np.asarray(counts.sum(axis=-1), np.float64)
    means = np.full(many.shape, np.nan)
    return np.divide(np.where(counts, values, 0).sum(axis=-1), many, out=means, where=many > 0)
