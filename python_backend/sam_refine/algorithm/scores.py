"""L and S on the image and on the working grid.

Class scores may come at a lower resolution than the image; they stand for their bilinear upsampling
to it. What that upsampling, and its downsampling to the grid, have at a place is computed where it
is looked at: there is no (C, H, W) or (C, h_d, w_d) array unless somebody asks for one.

An example of F_down(S), 8 x 8 pixels at r = 2: a cell has the label of its upper left pixel.

    S           S_d
    00000111    0001
    00001111
    00111111    0111
    01111122
    11111222    1112
    11112222
    11122222    1122
    11222222
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from array_api_compat import array_namespace, device

from sam_refine.numerics.argmax import argmax
from sam_refine.numerics.arrays import (
    Array,
    Float32,
    Indices,
    Labels,
    Mask,
    Window,
    bands,
    to_float32,
    to_like,
    to_numpy,
)
from sam_refine.numerics.resize import (
    ROUNDING,
    bilinear_sources,
    gather_bilinear,
    part_read,
    resize_bilinear,
    resize_nearest,
)


@dataclass(frozen=True)
class ClassScores:
    """L: finite class scores (C, h, w), float16 or float32, of an image of `size_image` (H, W)."""

    values: Array
    size_image: tuple[int, int]

    def __len__(self) -> int:
        return len(self.values)

    def plane(self, class_id: int, window: Window | None = None) -> Array:
        """L of one class in image resolution, (H, W) or the window of it, float32."""
        return resize_bilinear(self.values[class_id], self.size_image, window=window)

    @cached_property
    def lowest(self) -> Float32:
        """min L of each class, (C,) float32."""
        xp = array_namespace(self.values)
        return to_numpy(xp.stack([xp.min(to_float32(plane)) for plane in self.values]))

    def nonnegative(self, class_id: int, window: Window) -> bool:
        """Whether none of the scores that a window of `plane` is made of is negative."""
        if self.lowest[class_id] >= 0:
            return True
        part = to_float32(part_read(self.values[class_id], self.size_image, window))
        return bool(array_namespace(part).min(part) >= 0)

    def argmax(self) -> Array:
        """argmax_c L: (H, W) int32, lowest id on ties."""
        return argmax(self.values, self.size_image)

    def at(self, classes: Array, window: Window) -> Array:
        """L of each pixel's own class, float32: `classes` (window's size) holds class ids."""
        xp = array_namespace(self.values)
        rows, columns = (
            xp.arange(side.start, side.stop, device=device(self.values)) for side in window
        )
        return gather_bilinear(self.values, classes, rows[:, None], columns, self.size_image)

    def at_pixels(self, rows: Indices, columns: Indices) -> Float32:
        """L of all classes at some pixels, (C, n): rows and columns are (n,)."""
        values = _to_be_read(self.values, 4 * len(self) * len(rows))
        places = (to_like(index, self.values) for index in (rows, columns))
        return to_numpy(gather_bilinear(values, None, *places, self.size_image))

    def image(self) -> Array:
        """All of L in image resolution, (C, H, W) float32."""
        xp = array_namespace(self.values)
        shape = len(self), *self.size_image
        image = xp.empty(shape, dtype=xp.float32, device=device(self.values))
        for class_id in range(len(self)):
            for band in bands(self.size_image, self.values):
                image[class_id][band] = self.plane(class_id, band)
        return image


@dataclass(frozen=True)
class GridScores:
    """L_d: class scores downsampled to the working grid, `size_grid` (h_d, w_d)."""

    image_scores: ClassScores
    size_grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.image_scores)

    @property
    def steps(self) -> list[list[tuple[int, int]]]:
        """The resizes from the scores as they came to the grid, sizes (in, out), by axis."""
        scores = self.image_scores
        sizes = zip(scores.values.shape[1:], scores.size_image, self.size_grid, strict=True)
        return [list(pairwise(side)) for side in sizes]

    def own(self, labels_grid: Labels) -> Float32:
        """L_d of each cell's own class: `labels_grid` (h_d, w_d) has class ids."""
        # 4 image pixels a cell, each of 4 scores
        values = _to_be_read(self.image_scores.values, 16 * labels_grid.size)
        own = np.empty(labels_grid.shape, np.float32)
        for band in bands(self.size_grid, values):
            rows, columns = np.ogrid[band]
            own[band] = self._gather(values, labels_grid[band], rows, columns)
        return own

    def reached(self, threshold: float, cells: Mask, class_ids: Iterable[int]) -> Mask:
        """Of `cells` (h_d, w_d), those where L_d of any of some classes is >= `threshold`.

        It is only near a score that is: what lies elsewhere is not computed.
        """
        planes = self.image_scores.values
        sources = [bilinear_sources(*steps)[0] for steps in self.steps]
        spans = [int(np.ptp(source, axis=0).max()) for source in sources]
        rows, columns = np.nonzero(cells)
        first = sources[0].min(axis=0)[rows], sources[1].min(axis=0)[columns]
        corners = np.ravel_multi_index(first, planes.shape[1:])
        reached = np.zeros(len(corners), np.bool_)
        for class_id in class_ids:
            near = _near(planes[class_id], threshold, spans).ravel()[corners]
            places = np.flatnonzero(near & ~reached)
            if len(places):
                same = np.full(len(places), class_id)
                found = self._gather(planes, same, rows[places], columns[places])
                reached[places] = found >= threshold
        result = np.zeros_like(cells)
        result[rows, columns] = reached
        return result

    def _gather(self, values: Array, classes: Indices, rows: Indices, columns: Indices) -> Float32:
        indices = (to_like(index, values) for index in (classes, rows, columns))
        size_image = self.image_scores.size_image
        return to_numpy(gather_bilinear(values, *indices, size_image, self.size_grid))


def _to_be_read(values: Array, reads: int) -> Array:
    """Values of which so many are read, some often: in float32 at once if that are fewer."""
    return to_float32(values) if math.prod(values.shape) < reads else values


def _near(plane: Array, threshold: float, spans: list[int]) -> Mask:
    """Where one of the next `spans` scores down and across may be >= `threshold`, or this one."""
    plane = to_float32(plane)
    xp = array_namespace(plane)
    slack = ROUNDING * float(xp.max(xp.abs(plane)))
    high = to_numpy(plane >= threshold - slack)
    near = high.copy()
    for shift in range(1, spans[0] + 1):
        near[:-shift] |= high[shift:]
    high = near.copy()
    for shift in range(1, spans[1] + 1):
        near[:, :-shift] |= high[:, shift:]
    return near


def grid_size(size_image: tuple[int, int], downsample_ratio: int) -> tuple[int, int]:
    """(h_d, w_d) = (floor(H / r), floor(W / r)), at least one cell each way."""
    height, width = size_image
    return max(1, height // downsample_ratio), max(1, width // downsample_ratio)


def coarse_map(
    scores: ClassScores, labels: Array | None, size_grid: tuple[int, int]
) -> tuple[Array, Labels, GridScores]:
    """S in the image, and F_down of S and of L.

    Returns labels (H, W) int32 (the given ones, else argmax_c L with the lowest id on ties), labels
    (h_d, w_d) int32 by nearest, and scores on the grid by bilinear.
    """
    labels_image = scores.argmax() if labels is None else labels
    labels_grid = to_numpy(resize_nearest(labels_image, size_grid))
    return labels_image, labels_grid, GridScores(scores, size_grid)
