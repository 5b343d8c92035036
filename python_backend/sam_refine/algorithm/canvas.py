"""GetPreprocessShape: how large an image lies on the canvas of SAM's image encoder."""

from __future__ import annotations


def preprocess_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """GetPreprocessShape: the size (h, w) at which the longest side is `side`, rounded half up.

    As segment-anything's `ResizeLongestSide`, but never 0: a strip of 1 x 3000 keeps one row.
    """
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
