"""PostprocessMasks as one linear operator per axis.

SAM brings a low-resolution mask to the image in two bilinear steps: 256 -> 1024, crop to the
resized image, -> (H, W). They are not one bilinear resize, but both are linear, so one matrix per
axis does the two at once, and any part of a mask can be had without the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sam_refine.contract import MASK_SIDE, MODEL_SIDE
from sam_refine.preprocess import preprocess_shape
from sam_refine.resize import Float32, Window, bilinear_matrix


@dataclass(frozen=True)
class Axis:
    """Low-resolution cells to image pixels along one axis."""

    matrix: Float32
    """(size_image, 256)."""
    first: npt.NDArray[np.intp]
    """(size_image,) first cell that a pixel is made of."""
    last: npt.NDArray[np.intp]
    """(size_image,) last cell that a pixel is made of."""

    @classmethod
    def of(cls, size_image: int, size_model: int) -> Axis:
        upscale = bilinear_matrix(MODEL_SIDE, MASK_SIDE)[:size_model]
        matrix = bilinear_matrix(size_image, size_model) @ upscale
        used = matrix > 0
        return cls(matrix, used.argmax(axis=1), MASK_SIDE - 1 - used[:, ::-1].argmax(axis=1))

    def reach(self, cells: npt.NDArray[np.bool_]) -> slice:
        """Pixels made of any cell between the first and the last true one of `cells` (256,)."""
        low, high = np.flatnonzero(cells)[[0, -1]]
        pixels = np.flatnonzero((self.last >= low) & (self.first <= high))
        return slice(int(pixels[0]), int(pixels[-1]) + 1) if len(pixels) else slice(0, 0)

    def part(self, pixels: slice) -> tuple[Float32, slice]:
        """The operator of some pixels: its matrix, and the cells that it reads."""
        cells = slice(int(self.first[pixels.start]), int(self.last[pixels.stop - 1]) + 1)
        return self.matrix[pixels, cells], cells


@dataclass(frozen=True)
class MaskPostprocessor:
    """Low-resolution logits (256, 256) to image resolution, whole or in part."""

    vertical: Axis
    horizontal: Axis

    @classmethod
    def of(cls, size_image: tuple[int, int]) -> MaskPostprocessor:
        return _postprocessor(*size_image)

    def positive_window(self, low_res_logits: Float32) -> Window:
        """Where the mask can be positive: a bilinear value is > 0 only beside a value > 0.

        Empty where no pixel can be.
        """
        positive = low_res_logits > 0
        if not positive.any():
            return Window(slice(0, 0), slice(0, 0))
        return Window(
            self.vertical.reach(positive.any(axis=1)), self.horizontal.reach(positive.any(axis=0))
        )

    def logits(self, low_res_logits: Float32, window: Window) -> Float32:
        """Mask logits of a non-empty window of the image."""
        vertical, rows = self.vertical.part(window.rows)
        horizontal, columns = self.horizontal.part(window.columns)
        resized: Float32 = vertical @ low_res_logits[rows, columns] @ horizontal.T
        return resized


@lru_cache(maxsize=4)
def _postprocessor(height: int, width: int) -> MaskPostprocessor:
    height_model, width_model = preprocess_shape(height, width, MODEL_SIDE)
    return MaskPostprocessor(Axis.of(height, height_model), Axis.of(width, width_model))
