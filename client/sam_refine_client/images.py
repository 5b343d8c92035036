"""Images, in all the forms in which callers have them."""

from __future__ import annotations

import io
from os import PathLike
from typing import TypeAlias

import numpy as np
from PIL import Image

from sam_refine.contract import InvalidRequestError
from sam_refine_client.arrays import UInt8

ImageLike: TypeAlias = UInt8 | Image.Image | bytes | str | PathLike[str]
"""RGB (H, W, 3) uint8, a PIL image of 8 bits per channel, or a JPEG or PNG as bytes or path."""


def rgb_of(image: ImageLike) -> UInt8:
    """(H, W, 3) uint8: the pixels as they are stored, which is how the server reads them too.

    An array is returned as it is. Raises `InvalidRequestError` for anything but an image of 8 bits
    per channel, and `OSError` for a file that cannot be read.
    """
    if isinstance(image, np.ndarray):
        check_rgb(image)
        return image
    if isinstance(image, Image.Image):
        return _converted(image)
    if not isinstance(image, bytes | str | PathLike):
        raise InvalidRequestError(
            f"image must be an array, a PIL image, bytes or a path, got {type(image).__name__}"
        )
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            return _converted(opened)
    except (SyntaxError, Image.DecompressionBombError) as error:  # Pillow's, for damaged files
        raise InvalidRequestError(f"image must be an undamaged picture: {error}") from error


def check_rgb(image: UInt8) -> None:
    """Raise `InvalidRequestError` for an array that is not (H, W, 3) uint8 with pixels."""
    if image.dtype != np.uint8:
        raise InvalidRequestError(f"image must be uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InvalidRequestError(
            f"image must have shape (H, W, 3), H and W at least 1, got {image.shape}"
        )


def _converted(image: Image.Image) -> UInt8:
    if image.mode.startswith(("I", "F")):
        raise InvalidRequestError(f"image must have 8 bits per channel, got the mode {image.mode}")
    pixels: UInt8 = np.asarray(image.convert("RGB"))
    return pixels
