"""Class scores from a label map that has none, as painted or drawn by hand.

A network's scores are high within a thing, fall towards its border and do not end there. One-hot
scores do neither: SAM is pointed at the place of a region's highest score, and a class cannot win a
pixel where its score is 0. Therefore the share that each class has of every cell is averaged over
squares of growing size around it, and the scores are the mean of these averages. They are highest
where a class reaches far on all sides, and reach beyond its border as far as a hand may err.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from sam_refine.contract import MASK_SIDE
from sam_refine_client.arrays import Labels

Float32 = npt.NDArray[np.float32]

RADII: Final = (1, 2, 4, 8, 16)
"""Half sides of the squares, cells."""


def scores_of_labels(labels: Labels, count: int) -> Float32:
    """Class scores (count, h, w) in [0, 1] of labels (H, W); one of [0, count) or of no class.

    The longest side of h, w is that of SAM's mask prompt, 256, or the map's where that is less. The
    scores of a cell sum to 1; pixels of other labels count for no class, and all scores are lower
    around them.
    """
    size_hw = score_size(*labels.shape)
    shares = _shares(labels, count, size_hw)
    scores = np.zeros_like(shares)
    for radius in RADII:
        scores += _box_mean(_box_mean(shares, radius, axis=1), radius, axis=2)
    scores /= len(RADII)
    return scores


def score_size(height: int, width: int) -> tuple[int, int]:
    """(h, w) of the scores of a map (H, W)."""
    stride = max(1.0, max(height, width) / MASK_SIDE)
    return math.ceil(height / stride), math.ceil(width / stride)


def _shares(labels: Labels, count: int, size_hw: tuple[int, int]) -> Float32:
    """(count, h, w): the share of each cell's pixels that has the class."""
    (height, width), (rows, columns) = labels.shape, size_hw
    row = np.arange(height) * rows // height
    column = np.arange(width) * columns // width
    cell = row[:, None] * columns + column
    known = (labels >= 0) & (labels < count)
    places = labels[known].astype(np.int64) * (rows * columns) + cell[known]
    pixels = np.bincount(places, minlength=count * rows * columns).reshape(count, rows, columns)
    area = np.bincount(row, minlength=rows)[:, None] * np.bincount(column, minlength=columns)
    shares: Float32 = (pixels / area).astype(np.float32)
    return shares


def _box_mean(planes: Float32, radius: int, axis: int) -> Float32:
    """Mean over 2 * radius + 1 places along an axis; beyond the border lies what is on it."""
    widths = [(0, 0)] * planes.ndim
    widths[axis] = radius + 1, radius
    sums = np.cumsum(np.pad(planes, widths, mode="edge"), axis=axis, dtype=np.float64)
    size = planes.shape[axis]
    upper = np.take(sums, range(2 * radius + 1, 2 * radius + 1 + size), axis)
    lower = np.take(sums, range(size), axis)
    mean: Float32 = ((upper - lower) / (2 * radius + 1)).astype(np.float32)
    return mean
