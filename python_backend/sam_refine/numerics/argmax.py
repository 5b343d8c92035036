"""argmax_c L in image resolution, with no class upsampled where it cannot be the best.

Scores of a lower resolution than the image are bilinear between their low-resolution values: in the
block of pixels between four of them, a class lies between the lowest and the highest of its four. A
class whose highest is below another one's lowest loses the whole block unseen. Most blocks have one
class left, which is the answer; in the others, the classes left are compared pixel by pixel, with
the values that `resize_bilinear` makes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from sam_refine.numerics.arrays import (
    BAND,
    Array,
    Float32,
    Indices,
    bands,
    take,
    to_float32,
    to_like,
)
from sam_refine.numerics.resize import ROUNDING, bilinear_taps


class RunningBest:
    """The highest score so far and its class, lowest id on ties.

    Classes come in the order of their ids. So a class that is better than those before has the
    highest id so far, and a maximum, which is fast, does for a choice by a mask, which is not.
    """

    def __init__(self, score: Array, class_id: Array | int = 0) -> None:
        """With the scores of the first class, float32 of any shape, which are taken over."""
        xp = array_namespace(score)
        self.score = score
        self.class_id = xp.zeros(score.shape, dtype=xp.int32, device=device(score))
        self.class_id += class_id

    def add(self, class_id: Array | int, score: Array, where: Any = ...) -> None:
        """A class with `score` in the part that `where` indexes."""
        xp = array_namespace(score)
        best, best_class = self.score[where], self.class_id[where]
        better = xp.astype(score > best, xp.int32)
        better *= class_id
        xp.maximum(best_class, better, out=best_class)
        xp.maximum(best, score, out=best)


def argmax(values: Array, size_image: tuple[int, int]) -> Array:
    """The best class of each pixel, (H, W) int32, lowest id on ties.

    `values` (C, h, w), float16 or float32, stand for their bilinear upsampling to (H, W).
    """
    xp = array_namespace(values)
    labels = xp.empty(size_image, dtype=xp.int32, device=device(values))
    classes, height, width = values.shape
    if (height, width) == size_image:
        for band in bands(size_image, values):
            labels[band] = _argmax_of_pixels(values[:, band.rows, band.columns])
        return labels
    down, across = _blocks(size_image[0], height), _blocks(size_image[1], width)
    block = max(classes, len(down.pixels) * len(across.pixels))
    step = max(1, BAND // (block * len(across.lower)))
    for start in range(0, len(down.lower), step):
        part = down.part(start, min(start + step, len(down.lower)))
        labels[part.pixel_range] = _argmax_of_blocks(values, part, across)
    return labels


def _argmax_of_pixels(values: Array) -> Array:
    """Of scores (C, H, W) as large as the image, or of a band of them."""
    best = RunningBest(to_float32(values[0]) + 0)  # a copy
    for class_id in range(1, len(values)):
        best.add(class_id, to_float32(values[class_id]))
    return best.class_id


class _Blocks(NamedTuple):
    """One axis of the image, cut where the low-resolution values change between which it lies."""

    lower: Indices
    """(n,) low-resolution index on the near side of each block."""
    upper: Indices
    """(n,) on the far side."""
    pixels: Indices
    """(s, n) the pixels of a block, the last one repeated where it has fewer than s."""
    weight: Float32
    """(s, n) the weight of `upper` at these pixels."""
    block_of_pixel: Indices
    """The block of each pixel of `pixel_range`."""

    @property
    def pixel_range(self) -> slice:
        """The pixels of all the blocks."""
        return slice(int(self.pixels[0, 0]), int(self.pixels[-1, -1]) + 1)

    def part(self, start: int, stop: int) -> _Blocks:
        """Blocks [start, stop), which then are counted from 0."""
        blocks = slice(start, stop)
        part = self._replace(
            lower=self.lower[blocks],
            upper=self.upper[blocks],
            pixels=self.pixels[:, blocks],
            weight=self.weight[:, blocks],
        )
        block_of_pixel = self.block_of_pixel[part.pixel_range] - start
        return part._replace(block_of_pixel=block_of_pixel)


@lru_cache(maxsize=8)
def _blocks(size_image: int, size_low: int) -> _Blocks:
    lower, upper, weight = bilinear_taps(size_image, size_low)
    longest = -(-size_image // size_low)
    pixels = np.arange(size_image)
    since_change = pixels - np.searchsorted(lower, lower)
    first = np.flatnonzero(since_change % longest == 0)  # what lies at a border may be two blocks
    last = np.append(first[1:], size_image) - 1
    block_of_pixel = np.searchsorted(first, pixels, side="right") - 1
    pixels = np.minimum(first + np.arange(longest)[:, None], last)
    return _Blocks(lower[first], upper[last], pixels, weight[pixels], block_of_pixel)


def _argmax_of_blocks(values: Array, down: _Blocks, across: _Blocks) -> Array:
    """Of scores (C, h, w) of a lower resolution, for the pixels of some rows of blocks."""
    xp, on = array_namespace(values), device(values)
    corners = _Corners.of(values, down, across)
    can_win = corners.can_win()  # (C, blocks)
    winners = xp.astype(can_win, xp.int32)
    count = xp.sum(winners, axis=0, dtype=xp.int32)
    winners *= xp.arange(len(values), dtype=xp.int32, device=on)[:, None]
    winner = xp.sum(winners, axis=0, dtype=xp.int32)  # where there is one
    labels = xp.reshape(winner, (len(down.lower), len(across.lower)))
    labels = take(take(labels, across.block_of_pixel, 1), down.block_of_pixel, 0)

    undecided = xp.nonzero(count > 1)[0]
    if len(undecided):
        undecided = undecided[xp.argsort(count[undecided], descending=True)]
        pixels = down.pixels - down.pixel_range.start
        rows = to_like(pixels, values)[:, undecided // len(across.lower)]
        columns = to_like(across.pixels, values)[:, undecided % len(across.lower)]
        best = _compare(corners, take(can_win, undecided, 1), undecided)
        labels[rows[:, None], columns] = best
    return labels


class _Corners(NamedTuple):
    """The scores around some rows of blocks."""

    left: Array
    """(C, low-resolution rows, blocks across) float32."""
    right: Array
    above: Array
    """(blocks down,) which of the rows lies above a block."""
    below: Array
    weight_down: Array
    """(s, blocks down) of `below`, at each pixel of a block."""
    weight_across: Array
    """(s, blocks across) of `right`."""

    @classmethod
    def of(cls, values: Array, down: _Blocks, across: _Blocks) -> _Corners:
        first, last = int(down.lower[0]), int(down.upper[-1])
        rows = to_float32(values[:, first : last + 1])
        return cls(
            take(rows, across.lower, 2),
            take(rows, across.upper, 2),
            *(
                to_like(array, values)
                for array in (down.lower - first, down.upper - first, down.weight, across.weight)
            ),
        )

    def can_win(self) -> Array:
        """(C, blocks) bool: whether a class's highest is not below the highest of the lowest."""
        xp = array_namespace(self.left)
        lowest, highest = xp.minimum(self.left, self.right), xp.maximum(self.left, self.right)
        lowest = xp.minimum(take(lowest, self.above, 1), take(lowest, self.below, 1))
        highest = xp.maximum(take(highest, self.above, 1), take(highest, self.below, 1))
        slack = 2 * ROUNDING * xp.maximum(xp.max(highest), -xp.min(lowest))
        return xp.reshape(highest >= xp.max(lowest, axis=0) - slack, (len(self.left), -1))

    def scores(self, class_ids: Array, blocks: Array) -> Array:
        """One class's scores in each of n blocks, (s, s, n) float32: rows, columns, blocks."""
        xp = array_namespace(self.left)
        left, right = xp.reshape(self.left, (-1,)), xp.reshape(self.right, (-1,))
        _, height, width = self.left.shape
        row, column = blocks // width, blocks % width
        above = (class_ids * height + self.above[row]) * width + column
        below = (class_ids * height + self.below[row]) * width + column
        weight_across = self.weight_across[:, column]
        top = _between(left[above], right[above], weight_across)
        bottom = _between(left[below], right[below], weight_across)
        return _between(top, bottom, self.weight_down[:, row][:, None])


def _between(start: Array, end: Array, weight: Array) -> Array:
    """What lies `weight` of the way from start to end, in the arithmetic of `resize_bilinear`."""
    value = (end - start) * weight
    value += start
    return value


def _compare(corners: _Corners, can_win: Array, blocks: Array) -> Array:
    """The best class of each pixel of n blocks, (s, s, n) int32: rows, columns, blocks.

    `can_win` (C, n) has at least one class for each block, and no more than for the block before.
    The r-th class of each block is compared for all blocks that have one, the first of them, at
    once.
    """
    xp = array_namespace(can_win)
    class_ids = xp.nonzero(can_win.T)[1]  # block after block
    count = xp.sum(xp.astype(can_win, xp.int32), axis=0, dtype=xp.int32)
    start = xp.cumulative_sum(count) - count
    ranked = class_ids[start]
    best = RunningBest(corners.scores(ranked, blocks), xp.astype(ranked, xp.int32))
    for rank in range(1, int(count[0])):
        n = int(xp.sum(xp.astype(count > rank, xp.int32)))
        ranked = class_ids[start[:n] + rank]
        scores = corners.scores(ranked, blocks[:n])
        best.add(xp.astype(ranked, xp.int32), scores, (..., slice(0, n)))
    return best.class_id
