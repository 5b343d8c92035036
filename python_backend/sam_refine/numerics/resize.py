"""Bilinear resizing (half-pixel centres, no antialiasing) and nearest, axis by axis.

The bilinear source coordinates are computed in float32 by the rule of
`torch.nn.functional.interpolate(align_corners=False)`, so that near ties of two classes fall as
they do there. Values are a + (b - a) * weight: between equal neighbours, and in the margin that
repeats the border, they are exactly equal, and the first of a region's best pixels is well defined.
`resize_bilinear` and `gather_bilinear` give the same bits. Where these do not matter, resizes in a
row are one matrix for each axis.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    full_window,
    take,
    to_float32,
    to_like,
)

ROUNDING: Final = 2.0**-19
"""By how much of the largest magnitude, at most, rounding takes a bilinear value out of the range
of what it is made of: a dozen roundings of 2^-24 each."""


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
    weight = to_like(taps.weight if axis else taps.weight[:, None], plane)
    return _interpolate(take(plane, taps.lower, axis), take(plane, taps.upper, axis), weight)


def _interpolate(start: Array, end: Array, weight: Array) -> Array:
    """start + (end - start) * weight, written over `end`, which spares an array."""
    end -= start
    end *= weight
    end += start
    return end


def gather_bilinear(
    planes: Array, which: Array | None, rows: Array, columns: Array, *sizes_hw: tuple[int, int]
) -> Array:
    """What planes[which], resized to each size in turn, has at (rows, columns), float32.

    `planes` is (C, h, w); the three indices broadcast against each other. For a value of another
    plane at each place: the cost goes by the places, not by the planes. Without `which`, the values
    of all planes: C times the shape of the other two.
    """
    xp = array_namespace(planes)
    count_planes, height, width = planes.shape
    if which is None:
        values, offsets = xp.reshape(planes, (count_planes, -1)), 0
    else:
        values, offsets = xp.reshape(planes, (-1,)), xp.astype(which, xp.int64) * (height * width)
    axes: list[tuple[int, int, int]] = []
    for size_in, size_out in pairwise([(height, width), *sizes_hw]):
        steps = [(axis, size_in[axis], size_out[axis]) for axis in (0, 1)]
        if size_out[0] >= size_in[0]:  # in the order of `resize_bilinear`
            steps.reverse()
        axes += [step for step in steps if step[1] != step[2]]

    def value_at(rows: Array, columns: Array, count: int) -> Array:
        """What there is at (rows, columns) after the first `count` of `axes`."""
        if count == 0:
            places = rows * width + columns + offsets
            found = take(values, xp.reshape(places, (-1,)), -1)
            return to_float32(xp.reshape(found, (*values.shape[:-1], *places.shape)))
        axis, size_in, size_out = axes[count - 1]
        lower, upper, weight = (to_like(tap, planes) for tap in bilinear_taps(size_out, size_in))
        if axis == 0:
            start, end = (value_at(tap[rows], columns, count - 1) for tap in (lower, upper))
            return _interpolate(start, end, weight[rows])
        start, end = (value_at(rows, tap[columns], count - 1) for tap in (lower, upper))
        return _interpolate(start, end, weight[columns])

    return value_at(rows, columns, len(axes))


def resize_nearest(plane: Array, size_hw: tuple[int, int]) -> Array:
    """Resize (h, w) of any dtype to `size_hw`: source row floor(i * h / H), column likewise."""
    rows, columns = map(nearest_sources, size_hw, plane.shape)
    return take(take(plane, rows, 0), columns, 1)


def nearest_sources(size_out: int, size_in: int) -> Indices:
    """The input that each output of `resize_nearest` is, along one axis: (size_out,), rising."""
    sources: Indices = np.arange(size_out) * size_in // size_out
    return sources


def resize_linear(plane: Array, vertical: LinearAxis, horizontal: LinearAxis) -> Array:
    """vertical @ plane @ horizontal.T, in parts of which few entries are 0; (h, w) float32."""
    xp = array_namespace(plane)
    rows = xp.concat([matrix @ plane[reads] for matrix, reads in vertical.parts()])
    return xp.concat([rows[:, reads] @ matrix.T for matrix, reads in horizontal.parts()], axis=1)


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

    def like(self, array: Array) -> LinearAxis:
        """For arrays of the library, and on the device, of `array`."""
        return LinearAxis(to_like(self.matrix, array), self.first, self.last)

    def part(self, outputs: slice) -> tuple[Array, slice]:
        """The matrix of some outputs, at least one, and the inputs that it reads."""
        inputs = slice(int(self.first[outputs.start]), int(self.last[outputs.stop - 1]) + 1)
        return self.matrix[outputs, inputs], inputs

    def parts(self, count: int = 32) -> Iterator[tuple[Array, slice]]:
        """`part` of every `count` outputs."""
        size = len(self.first)
        for start in range(0, size, count):
            yield self.part(slice(start, min(start + count, size)))
