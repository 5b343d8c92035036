"""The coarse map at the resolution of SAM's masks, which is where masks are measured.

SAM's masks have 256 cells on the longer side of an image: that is what SAM can tell apart, whatever
the image's size, and what lengths and areas are counted in.

An example of how deep cells lie in a map:

    labels      depth
    00000111    54321123
    00000111    44321122
    00000111    33321111
    00000000    32222111
    00000000    22111222
    00222000    21111123
    00222000    21121123
    00222000    21121123
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sam_refine.algorithm.canvas import preprocess_shape
from sam_refine.algorithm.regions import Regions
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import MASK_SIDE
from sam_refine.numerics.arrays import (
    Array,
    Float32,
    Int32,
    Labels,
    Mask,
    Window,
    to_float32,
    to_numpy,
)
from sam_refine.numerics.resize import LinearAxis, nearest_sources, resize_linear, resize_nearest

MAX_DEPTH: Final = 8


@dataclass(frozen=True)
class MaskGrid:
    """L, S and the regions at (h_m, w_m), the part of SAM's low-resolution masks with the image."""

    scores: Mapping[int, Float32]
    """(h_m, w_m) of each class that has regions, by its id."""
    best: Float32
    """(h_m, w_m) the best class score."""
    second: Float32
    """(h_m, w_m) the second best; -inf where there is one class."""
    best_class: Int32
    """(h_m, w_m)."""
    second_class: Int32
    """(h_m, w_m)."""
    labels: Labels
    """(h_m, w_m)."""
    depth: Float32
    """(h_m, w_m) `depth_of` the labels."""
    region_map: Int32
    """(h_m, w_m) index of each cell's region, or NO_REGION."""
    windows: tuple[Window, ...]
    """Of each region: the cells that its box covers."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(h_m, w_m)."""
        height, width = self.labels.shape
        return height, width

    @classmethod
    def of(cls, labels_image: Array, scores: ClassScores, regions: Regions) -> MaskGrid:
        """Labels are (H, W) int32."""
        size_mask = preprocess_shape(*scores.size_image, MASK_SIDE)
        values = to_numpy(scores.values)
        vertical, horizontal = (
            LinearAxis.of((size_in, size_image), (size_image, size_out))
            for size_in, size_image, size_out in zip(
                values.shape[1:], scores.size_image, size_mask, strict=True
            )
        )
        best, planes = _Best(size_mask), {}
        for class_id, plane in enumerate(values):
            resized = resize_linear(to_float32(plane), vertical, horizontal)
            best.add(class_id, resized)
            if class_id in regions.classes:
                planes[class_id] = resized
        labels = to_numpy(resize_nearest(labels_image, size_mask))
        return cls(
            planes,
            best.scores[0],
            best.scores[1],
            best.classes[0],
            best.classes[1],
            labels,
            depth_of(labels),
            resize_nearest(regions.region_map, size_mask),
            region_windows(regions, size_mask),
        )


def region_windows(regions: Regions, size_hw: tuple[int, int]) -> tuple[Window, ...]:
    """Where each region's box lies in a map of another size, resized by nearest; may be empty."""
    boxes = regions.boxes_xyxy_grid
    sides = []
    for axis, (size_out, size_in) in enumerate(zip(size_hw, regions.region_map.shape, strict=True)):
        sources = nearest_sources(size_out, size_in)
        start = np.searchsorted(sources, boxes[:, 1 - axis], side="left")
        stop = np.searchsorted(sources, boxes[:, 3 - axis], side="right")
        sides.append([slice(*each) for each in zip(start.tolist(), stop.tolist(), strict=True)])
    return tuple(Window(*each) for each in zip(*sides, strict=True))


def depth_of(labels: Labels) -> Float32:
    """Steps from each cell to the nearest border of a map (h, w), 8-connected, at most MAX_DEPTH.

    1 beside a cell of another label; the map's own edge is no border.
    """
    inner = np.ones(labels.shape, np.bool_)
    for axis in (0, 1):
        same = np.diff(labels, axis=axis) == 0
        before, after = [slice(None)] * 2, [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        inner[tuple(before)] &= same
        inner[tuple(after)] &= same
    depth = np.ones(labels.shape, np.float32)
    for _ in range(MAX_DEPTH - 1):
        depth += inner
        inner = _eroded(inner)
    return depth


def _eroded(mask: Mask) -> Mask:
    """Without the cells that one outside the mask touches, be it at a corner."""
    rows = mask.copy()
    rows[1:] &= mask[:-1]
    rows[:-1] &= mask[1:]
    eroded = rows.copy()
    eroded[:, 1:] &= rows[:, :-1]
    eroded[:, :-1] &= rows[:, 1:]
    return eroded


class _Best:
    """The two highest of planes that come one after the other; of equals, the first."""

    def __init__(self, size_hw: tuple[int, int]) -> None:
        self.scores = np.full((2, *size_hw), -np.inf, np.float32)
        self.classes = np.zeros((2, *size_hw), np.int32)

    def add(self, class_id: int, plane: Float32) -> None:
        is_best, is_second = plane > self.scores[0], plane > self.scores[1]
        for values, new in ((self.scores, plane), (self.classes, np.int32(class_id))):
            values[1] = np.where(is_best, values[0], np.where(is_second, new, values[1]))
            values[0] = np.where(is_best, new, values[0])
