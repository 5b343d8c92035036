"""L and S on the image and on the working grid, one class at a time.

Class scores may come at a lower resolution than the image; they stand for their bilinear upsampling
to it. No (C, H, W) array is made unless somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_refine.resize import Float32, Window, resize_bilinear, resize_nearest

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ClassScores:
    """L: finite class scores (C, h, w), float16 or float32, of an image of `size_image` (H, W)."""

    values: npt.NDArray[np.float16] | Float32
    size_image: tuple[int, int]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nonnegative(self) -> bool:
        """Whether no score is negative (bilinear upsampling keeps that)."""
        return bool(self.values.min(initial=0) >= 0)

    def plane(self, class_id: int, window: Window | None = None) -> Float32:
        """L of one class in image resolution, (H, W) or the window of it, float32."""
        plane = self.values[class_id].astype(np.float32, copy=False)
        return resize_bilinear(plane, self.size_image, window)

    def planes(self) -> Iterator[Float32]:
        """`plane` of each class in order."""
        return (self.plane(class_id) for class_id in range(len(self)))

    def best(self) -> Float32:
        """max_c L in image resolution, (H, W) float32."""
        best = np.full(self.size_image, -np.inf, np.float32)
        for plane in self.planes():
            np.maximum(best, plane, out=best)
        return best

    def image(self) -> Float32:
        """All of L in image resolution, (C, H, W) float32."""
        image = np.empty((len(self), *self.size_image), np.float32)
        for class_id, plane in enumerate(self.planes()):
            image[class_id] = plane
        return image


def grid_size(size_image: tuple[int, int], downsample_ratio: int) -> tuple[int, int]:
    """(h_d, w_d) = (floor(H / r), floor(W / r)), at least one cell each way."""
    height, width = size_image
    return max(1, height // downsample_ratio), max(1, width // downsample_ratio)


def coarse_map(
    scores: ClassScores, labels: Labels | None, size_grid: tuple[int, int]
) -> tuple[Labels, Labels, Float32]:
    """S in the image, and F_down of S and of L, in one pass over the classes.

    Returns labels (H, W) int32 (the given ones, else argmax_c L with the lowest id on ties), labels
    (h_d, w_d) int32 by nearest, scores (C, h_d, w_d) float32 by bilinear.
    """
    scores_grid = np.empty((len(scores), *size_grid), np.float32)
    argmax = np.zeros(scores.size_image, np.int32)
    best = np.full(scores.size_image, -np.inf, np.float32)
    for class_id, plane in enumerate(scores.planes()):
        scores_grid[class_id] = resize_bilinear(plane, size_grid)
        if labels is None:
            argmax[plane > best] = class_id
            np.maximum(best, plane, out=best)
    labels_image = argmax if labels is None else labels
    return labels_image, resize_nearest(labels_image, size_grid), scores_grid
