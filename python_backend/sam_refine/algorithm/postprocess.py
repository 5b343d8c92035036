"""PostprocessMasks as one linear operator per axis.

SAM brings a low-resolution mask to the image in two bilinear steps: 256 -> 1024, crop to the
resized image, -> (H, W). They are not one bilinear resize, but both are linear, so one matrix per
axis does the two at once. A pixel is made of at most four cells along an axis: any part of a mask
is a small product, of the cells in its reach only.

An example of 8 x 8 pixels: where a mask is positive (#), and the window (+) outside which it cannot
be, which is all that the merge looks at.

    ........    ........
    ..#.....    .+++++..
    ..####..    .+++++..
    .####...    .+++++..
    ...#....    .+++++..
    ........    ........
    ........    ........
    ........    ........
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from sam_refine.algorithm.canvas import preprocess_shape
from sam_refine.contract import EMBEDDING_SHAPE, MASK_SIDE, MODEL_SIDE
from sam_refine.numerics.arrays import Array, Indices, Window, to_numpy
from sam_refine.numerics.resize import LinearAxis

CELL_SIDE = MASK_SIDE // EMBEDDING_SHAPE[1]
"""SAM makes 4 x 4 values of a mask of each cell of its embedding."""
MASKS_AT_ONCE = 16
"""Their signs, 64 KiB a mask, stay in the processor's cache."""


@dataclass(frozen=True)
class MaskPostprocessor:
    """Low-resolution logits (h_l, w_l) to image resolution, whole or in part."""

    vertical: LinearAxis
    horizontal: LinearAxis

    @classmethod
    def of(cls, size_image: tuple[int, int], masks: Array) -> MaskPostprocessor:
        """For masks of the library, and on the device, of `masks`."""
        sizes_model = preprocess_shape(*size_image, MODEL_SIDE)
        vertical, horizontal = map(_axis, size_image, sizes_model)
        return cls(vertical.like(masks), horizontal.like(masks))

    def positive_windows(self, low_res_logits: Array) -> Indices:
        """Where each of N masks can be positive: (N, 2, 2) rows start, stop; columns start, stop.

        A bilinear value is > 0 only beside a value > 0. Empty where no pixel can be.
        """
        xp = array_namespace(low_res_logits)
        windows = np.empty((len(low_res_logits), 2, 2), np.intp)
        for start in range(0, len(low_res_logits), MASKS_AT_ONCE):
            masks = slice(start, start + MASKS_AT_ONCE)
            positive = low_res_logits[masks] > 0
            rows, columns = xp.any(positive, axis=2), xp.any(positive, axis=1)
            windows[masks, 0] = _reach(self.vertical, to_numpy(rows))
            windows[masks, 1] = _reach(self.horizontal, to_numpy(columns))
        return windows

    def logits(self, low_res_logits: Array, window: Window) -> Array:
        """Mask logits of a non-empty window of the image."""
        vertical, rows = self.vertical.part(window.rows)
        horizontal, columns = self.horizontal.part(window.columns)
        return vertical @ low_res_logits[rows, columns] @ horizontal.T


def low_res_size(size_image: tuple[int, int]) -> tuple[int, int]:
    """(h_l, w_l): what an image's pixels are made of, in whole cells of SAM's embedding."""
    height, width = (
        -(-int(_axis(*sizes).last[-1] + 1) // CELL_SIDE) * CELL_SIDE
        for sizes in zip(size_image, preprocess_shape(*size_image, MODEL_SIDE), strict=True)
    )
    return height, width


@lru_cache(maxsize=8)
def _axis(size_image: int, size_model: int) -> LinearAxis:
    return LinearAxis.of((MASK_SIDE, MODEL_SIDE), (size_model, size_image))


def _reach(axis: LinearAxis, cells: npt.NDArray[np.bool_]) -> Indices:
    """Pixels made of any cell between the first and the last true one of `cells` (n, h_l).

    (n, 2) start, stop; equal where there are none.
    """
    low, high = cells.argmax(axis=1), cells.shape[1] - 1 - cells[:, ::-1].argmax(axis=1)
    start = np.searchsorted(axis.last, low)
    stop = np.searchsorted(axis.first, high, side="right")
    return np.stack([start, np.where(cells.any(axis=1), np.maximum(start, stop), start)], axis=1)
