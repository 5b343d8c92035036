"""Class scores for a label map without any, such as one that was painted by hand.

A network's scores are high inside a thing, fall towards its border, and do not end there. One-hot
scores do neither, and both matter: SAM's point is the place of a region's highest score, and a
class cannot win a pixel where its score is 0. Therefore the share that each class has of a cell is
averaged over squares of growing size around the cell, and the scores are the mean of these
averages. They are highest where a class extends far on all sides, and they extend beyond its border
about as far as a hand may err.
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
"""Half the sides of the squares, in cells."""


def scores_of_labels(labels: Labels, count: int) -> Float32:
    """Class scores (count, h, w) in [0, 1] of labels (H, W).

    Labels outside [0, count) are of no class. The longer side of (h, w) is that of SAM's mask
    prompt, 256, or that of the map if it is shorter. The scores of a cell sum to 1, or to less near
    pixels of no class.
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
    """(count, h, w): the share of the pixels of each cell that are of the class."""
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
    """Mean over 2 * radius + 1 places along an axis; values at the border continue beyond it."""
    widths = [(0, 0)] * planes.ndim
    widths[axis] = radius + 1, radius
    sums = np.cumsum(np.pad(planes, widths, mode="edge"), axis=axis, dtype=np.float64)
    size = planes.shape[axis]
    upper = np.take(sums, range(2 * radius + 1, 2 * radius + 1 + size), axis)
    lower = np.take(sums, range(size), axis)
    mean: Float32 = ((upper - lower) / (2 * radius + 1)).astype(np.float32)
    return mean
