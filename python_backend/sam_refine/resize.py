"""Bilinear resizing (half-pixel centres, no antialiasing) and nearest, axis by axis.

The bilinear source coordinates are computed in float32 by the rule of
`torch.nn.functional.interpolate(align_corners=False)`, so that near ties of two classes fall as
they do there. Values are a + (b - a) * weight: between equal neighbours, and in the margin that
repeats the border, they are exactly equal, and the first of a region's best pixels is well defined.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Scalar = TypeVar("Scalar", bound=np.generic)


class Window(NamedTuple):
    """A rectangle of a map: slices with explicit start and stop."""

    rows: slice
    columns: slice

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def full_window(size_hw: tuple[int, int]) -> Window:
    """The window that is the whole map."""
    return Window(slice(0, size_hw[0]), slice(0, size_hw[1]))


class Taps(NamedTuple):
    """One bilinear axis: out[i] lies `weight[i]` of the way from in[lower[i]] to in[upper[i]]."""

    lower: Indices
    upper: Indices
    weight: Float32


@lru_cache(maxsize=32)
def bilinear_taps(size_out: int, size_in: int) -> Taps:
    """The two source indices of each of `size_out` outputs, and the weight of the upper one."""
    scale = np.float32(size_in) / np.float32(size_out)
    half = np.float32(0.5)
    source = np.maximum(scale * (np.arange(size_out, dtype=np.float32) + half) - half, 0)
    lower = np.minimum(source.astype(np.intp), size_in - 1)
    upper = np.minimum(lower + 1, size_in - 1)
    weight: Float32 = np.clip(source - lower.astype(np.float32), 0, 1)
    return Taps(lower, upper, weight)


def bilinear_matrix(size_out: int, size_in: int) -> Float32:
    """The same axis as a matrix (size_out, size_in)."""
    taps = bilinear_taps(size_out, size_in)
    outputs = np.arange(size_out)
    matrix = np.zeros((size_out, size_in), np.float32)
    matrix[outputs, taps.lower] = 1 - taps.weight
    matrix[outputs, taps.upper] += taps.weight
    return matrix


def resize_bilinear(
    plane: Float32, size_hw: tuple[int, int], window: Window | None = None
) -> Float32:
    """Resize (h, w) to `size_hw`; with `window`, compute that part of the result only.

    Where a size stays, its axis is a view of `plane`.
    """
    window = window or full_window(size_hw)
    if size_hw[0] >= plane.shape[0]:  # the first axis is the one that leaves less for the second
        columns = _resize_columns(plane, size_hw[1], window.columns)
        return _resize_rows(columns, size_hw[0], window.rows)
    rows = _resize_rows(plane, size_hw[0], window.rows)
    return _resize_columns(rows, size_hw[1], window.columns)


def _resize_rows(plane: Float32, height: int, rows: slice) -> Float32:
    if height == plane.shape[0]:
        return plane[rows]
    taps = bilinear_taps(height, plane.shape[0])
    weight = taps.weight[rows, None]
    resized: Float32 = plane[taps.lower[rows]]
    resized += (plane[taps.upper[rows]] - resized) * weight
    return resized


def _resize_columns(plane: Float32, width: int, columns: slice) -> Float32:
    if width == plane.shape[1]:
        return plane[:, columns]
    taps = bilinear_taps(width, plane.shape[1])
    weight = taps.weight[columns]
    resized: Float32 = np.take(plane, taps.lower[columns], axis=1)
    resized += (np.take(plane, taps.upper[columns], axis=1) - resized) * weight
    return resized


def resize_nearest(plane: npt.NDArray[Scalar], size_hw: tuple[int, int]) -> npt.NDArray[Scalar]:
    """Resize (h, w) of any dtype to `size_hw`: source row floor(i * h / H), column likewise."""
    rows, columns = (
        np.arange(size_out) * size_in // size_out
        for size_out, size_in in zip(size_hw, plane.shape, strict=True)
    )
    resized: np.ndarray[Any, np.dtype[Scalar]] = plane[rows[:, None], columns]
    return resized
