"""Bilinear resizing (half-pixel centres, no antialiasing) and nearest, axis by axis.

The bilinear source coordinates are computed in float32 by the rule of
`torch.nn.functional.interpolate(align_corners=False)`, so that near ties of two classes fall as
they do there. Values are a + (b - a) * weight: between equal neighbours, and in the margin that
repeats the border, they are exactly equal, and the first of a region's best pixels is well defined.
`resize_bilinear` and `gather_bilinear` give the same bits. Where these do not matter, resizes in a
row are one matrix for each axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from sam_refine.numerics.arrays import (
    Array,
    Float32,
    Indices,
    Window,
    beside,
    full_window,
    take,
    to_float32,
)

ROUNDING: Final = 2.0**-19
"""By how much of the largest magnitude, at most, rounding takes a bilinear value out of the range
of what it is made of: a dozen roundings of 2^-24 each."""
Read = Callable[[Array, Array], Array]
"""(rows, columns) to what a plane has there."""


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


def resize_bilinear(plane: Array, size_hw: tuple[int, int], window: Window | None = None) -> Array:
    """Resize (h, w), float16 or float32, to `size_hw`, float32.

    With `window`, compute that part of the result only. Where a size stays, its axis is a view of
    `plane`.
    """
    window = window or full_window(size_hw)
    if plane.shape == size_hw:
        return to_float32(plane[window])
    _, rows = _read(size_hw[0], plane.shape[0], window.rows)
    _, columns = _read(size_hw[1], plane.shape[1], window.columns)
    part = to_float32(part_read(plane, size_hw, window))
    if size_hw[0] >= plane.shape[0]:  # the first axis is the one that leaves less for the second
        return _resize_axis(_resize_axis(part, columns, 1), rows, 0)
    return _resize_axis(_resize_axis(part, rows, 0), columns, 1)


def part_read(plane: Array, size_hw: tuple[int, int], window: Window) -> Array:
    """The part of (h, w) that `resize_bilinear` makes a window of its result from; a view."""
    rows, _ = _read(size_hw[0], plane.shape[0], window.rows)
    columns, _ = _read(size_hw[1], plane.shape[1], window.columns)
    return plane[rows, columns]


def _read(size_out: int, size_in: int, outputs: slice) -> tuple[slice, Taps | None]:
    """What some outputs read of an axis, and their taps on that; None where the size stays."""
    if size_out == size_in:
        return outputs, None
    taps = bilinear_taps(size_out, size_in)
    lower, upper = taps.lower[outputs], taps.upper[outputs]
    first = int(lower[0])
    part = Taps(lower - first, upper - first, taps.weight[outputs])
    return slice(first, int(upper[-1]) + 1), part


def _resize_axis(plane: Array, taps: Taps | None, axis: int) -> Array:
    if taps is None:
        return plane
    start = take(plane, taps.lower, axis)
    resized = take(plane, taps.upper, axis)
    resized -= start
    resized *= beside(taps.weight if axis else taps.weight[:, None], plane)
    resized += start
    return resized


def gather_bilinear(
    planes: Array, which: Array, rows: Array, columns: Array, *sizes_hw: tuple[int, int]
) -> Array:
    """What planes[which], resized to each size in turn, has at (rows, columns), float32.

    `planes` is (C, h, w); the three indices broadcast against each other. For a value of another
    plane at each place: the cost goes by the places, not by the planes.
    """
    xp = array_namespace(planes)
    _, height, width = planes.shape
    values = xp.reshape(planes, (-1,))
    offsets = xp.astype(which, xp.int64) * (height * width)

    def read_planes(rows: Array, columns: Array) -> Array:
        places = rows * width + columns + offsets
        return to_float32(xp.reshape(take(values, xp.reshape(places, (-1,)), 0), places.shape))

    read: Read = read_planes
    for size_in, size_out in pairwise([(height, width), *sizes_hw]):
        read = _resized(read, size_in, size_out, planes)
    return read(rows, columns)


def _resized(read: Read, size_in: tuple[int, int], size_out: tuple[int, int], like: Array) -> Read:
    """`read` of a plane becomes that of the plane resized, in the order of `resize_bilinear`."""
    vertical, horizontal = (
        _interpolation(*sizes, like) for sizes in zip(size_in, size_out, strict=True)
    )
    if size_out[0] >= size_in[0]:
        return lambda rows, columns: vertical(
            rows, lambda row: horizontal(columns, lambda column: read(row, column))
        )
    return lambda rows, columns: horizontal(
        columns, lambda column: vertical(rows, lambda row: read(row, column))
    )


def _interpolation(
    size_in: int, size_out: int, like: Array
) -> Callable[[Array, Callable[[Array], Array]], Array]:
    """f(indices, read): what an axis resized has at `indices`, from `read` of the axis before."""
    if size_in == size_out:
        return lambda indices, read: read(indices)
    lower, upper, weight = (beside(tap, like) for tap in bilinear_taps(size_out, size_in))

    def interpolate(indices: Array, read: Callable[[Array], Array]) -> Array:
        start, value = read(lower[indices]), read(upper[indices])
        value -= start
        value *= weight[indices]
        value += start
        return value

    return interpolate


def resize_nearest(plane: Array, size_hw: tuple[int, int]) -> Array:
    """Resize (h, w) of any dtype to `size_hw`: source row floor(i * h / H), column likewise."""
    rows, columns = (
        np.arange(size_out) * size_in // size_out
        for size_out, size_in in zip(size_hw, plane.shape, strict=True)
    )
    return take(take(plane, rows, 0), columns, 1)


def bilinear_sources(*steps: tuple[int, int]) -> tuple[Indices, Float32]:
    """What the outputs of resizes in a row are made of, along one axis.

    `steps` are sizes (in, out); a step may read less than the one before has made. Returns input
    indices (n, size_out) of the first step, and their weights.
    """
    sources = np.arange(steps[-1][1])[None]
    weights = np.ones(sources.shape)
    for size_in, size_out in reversed(steps):
        lower, upper, weight = (tap[sources] for tap in bilinear_taps(size_out, size_in))
        sources = np.concatenate([lower, upper])
        weights = np.concatenate([weights * (1 - weight), weights * weight])
    return sources, weights.astype(np.float32)


@dataclass(frozen=True)
class LinearAxis:
    """Resizes in a row along one axis as a matrix, few of whose entries are not 0."""

    matrix: Array
    """(size_out, size_in) float32."""
    first: Indices
    """(size_out,) first input that an output is made of."""
    last: Indices
    """(size_out,) last input that an output is made of."""

    @classmethod
    def of(cls, *steps: tuple[int, int]) -> LinearAxis:
        """With `steps` as in `bilinear_sources`."""
        sources, weights = bilinear_sources(*steps)
        matrix = np.zeros((steps[-1][1], steps[0][0]), np.float32)
        np.add.at(matrix, (np.arange(len(matrix)), sources), weights)
        return cls(matrix, sources.min(axis=0), sources.max(axis=0))

    def beside(self, array: Array) -> LinearAxis:
        """For arrays of the library, and on the device, of `array`."""
        return LinearAxis(beside(self.matrix, array), self.first, self.last)

    def part(self, outputs: slice) -> tuple[Array, slice]:
        """The matrix of some outputs, at least one, and the inputs that it reads."""
        inputs = slice(int(self.first[outputs.start]), int(self.last[outputs.stop - 1]) + 1)
        return self.matrix[outputs, inputs], inputs

    def parts(self, count: int = 32) -> Iterator[tuple[Array, slice]]:
        """`part` of every `count` outputs."""
        size = len(self.first)
        for start in range(0, size, count):
            yield self.part(slice(start, min(start + count, size)))
