"""What is counted of a map: sums over pixels, of which all figures are made.

Sums of images add up to those of the data set, and of any resample of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from sam_refine_quality.metrics.borders import AnyLabels, boundary
from sam_refine_quality.metrics.truth import Truth

Numbers: TypeAlias = npt.NDArray[np.float64]
"""Counts of pixels are whole numbers, exact up to 2**53; float64 because it is multiplied fast."""
S = TypeVar("S", bound="Sums")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over pixels: each field is an array (...) or (..., C)."""

    @classmethod
    def stacked(cls: type[S], parts: Sequence[S]) -> S:
        """Those of n images, at least one, with a first axis n."""
        return cls(
            **{
                field.name: np.stack([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            }
        )

    def added(self: S, times: Numbers | None = None) -> S:
        """Those of all n images of the first axis together, each as often as `times` (R, n) says.

        The first axis is then R; without `times` each image counts once, and the axis is gone.
        """
        return type(self)(
            **{
                field.name: values.sum(axis=0) if times is None else np.tensordot(times, values, 1)
                for field in fields(self)
                for values in (getattr(self, field.name),)
            }
        )


@dataclass(frozen=True, eq=False)
class MapSums(Sums):
    """A map against the truth; only pixels count whose truth is not void."""

    right: Numbers
    """(..., C) pixels of each class that have it in both."""
    in_truth: Numbers
    """(..., C) pixels of each class in the truth."""
    in_map: Numbers
    """(..., C) pixels of each class in the map."""
    border_right: Numbers
    """(...) pixels near a border of the truth whose label is right."""
    border: Numbers
    """(...) pixels near a border of the truth."""
    boundary_right: Numbers
    """(..., C) pixels that belong to the boundaries of both masks of a class."""
    boundary_any: Numbers
    """(..., C) pixels that belong to the boundary of either mask of a class."""

    @classmethod
    def of(cls, truth: Truth, labels: AnyLabels, name: str = "labels") -> MapSums:
        """Of one map (H, W); raises `InvalidRequestError` where it does not fit the truth."""
        read = truth.read(labels, name)
        confusion = _confusion(truth, read)
        is_right = read == truth.labels
        map_boundary = truth.valid & boundary(read, truth.boundary_px)
        in_both = _by_class(truth.labels[is_right & truth.boundary & map_boundary], truth.classes)
        in_truth = _by_class(truth.labels[truth.boundary], truth.classes)
        in_map = _by_class(read[map_boundary], truth.classes)
        return cls(
            right=np.diagonal(confusion).astype(np.float64),
            in_truth=confusion.sum(axis=1).astype(np.float64),
            in_map=confusion[:, : truth.classes].sum(axis=0).astype(np.float64),
            border_right=np.array(np.count_nonzero(is_right & truth.near_border), np.float64),
            border=np.array(np.count_nonzero(truth.near_border), np.float64),
            boundary_right=in_both,
            boundary_any=in_truth + in_map - in_both,
        )


@dataclass(frozen=True, eq=False)
class ChangeSums(Sums):
    """A refined map against the coarse one; only pixels count whose truth is not void."""

    valid: Numbers
    """(...) pixels that count."""
    changed: Numbers
    """(...) pixels whose label is another one."""
    made_right: Numbers
    """(...) of these, pixels whose label is right now."""
    made_wrong: Numbers
    """(...) of these, pixels whose label was right before."""

    @classmethod
    def of(cls, truth: Truth, coarse_labels: AnyLabels, refined_labels: AnyLabels) -> ChangeSums:
        """Of one image's maps (H, W); raises `InvalidRequestError` where one does not fit."""
        coarse = truth.read(coarse_labels, "coarse_labels")
        refined = truth.read(refined_labels, "refined_labels")
        changed = coarse != refined
        counted = (
            truth.valid,
            changed,
            changed & (refined == truth.labels),
            changed & (coarse == truth.labels),
        )
        return cls(*(np.array(np.count_nonzero(mask), np.float64) for mask in counted))


def confusion_matrix(
    truth: Truth, labels: AnyLabels, name: str = "labels"
) -> npt.NDArray[np.int64]:
    """(C, C + 1) how many pixels of a class in the truth have which label in the map (H, W).

    The last column is what is no class. Raises `InvalidRequestError` where the map does not fit.
    """
    return _confusion(truth, truth.read(labels, name))


def _confusion(truth: Truth, read: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    columns = truth.classes + 1
    cells = truth.labels[truth.valid].astype(np.int64) * columns + read[truth.valid]
    counts = np.bincount(cells, minlength=truth.classes * columns)
    return counts.reshape(truth.classes, columns)


def _by_class(labels: npt.NDArray[np.int32], classes: int) -> Numbers:
    """(C,) how often each class is among labels (n,)."""
    return np.bincount(labels, minlength=classes)[:classes].astype(np.float64)
