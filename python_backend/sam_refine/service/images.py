"""Images as callers send them, decoded, checked, and put on the canvas of SAM's image encoder."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from sam_refine.algorithm.canvas import preprocess_shape
from sam_refine.contract import MODEL_SIDE, InvalidRequestError, LimitExceededError, Limits
from sam_refine.numerics.arrays import UInt8


def decode_image(encoded: bytes, limits: Limits) -> UInt8:
    """Decode JPEG or PNG bytes to RGB (H, W, 3) uint8.

    EXIF orientation is ignored, as in most training code: scores belong to the pixels as stored.
    Transparency is dropped. Raises `InvalidRequestError` for bytes that are neither, for a damaged
    image, for 16 bits per channel, and for an image larger than `limits` allow.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            check_size("ENCODED_IMAGE", image.height, image.width, limits)
            if image.mode.startswith(("I", "F")) or _has_16_bits(image):
                raise InvalidRequestError(
                    "ENCODED_IMAGE must have 8 bits per channel, got 16 or more; send IMAGE, "
                    "(H, W, 3) uint8"
                )
            return np.asarray(image.convert("RGB"))
    except InvalidRequestError:
        raise
    except UnidentifiedImageError:
        raise InvalidRequestError(
            f"ENCODED_IMAGE must be a JPEG or PNG file, got {len(encoded)} bytes that are neither"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidRequestError(
            f"ENCODED_IMAGE must be an undamaged JPEG or PNG file: {error}"
        ) from error


def _has_16_bits(image: Image.Image) -> bool:
    """Of a PNG whose colours have 16 bits Pillow would leave the lower ones out."""
    return any(";16" in str(tile[-1]) for tile in getattr(image, "tile", ()))


def check_size(field: str, height: int, width: int, limits: Limits) -> None:
    """Raise `LimitExceededError` for an image without pixels or larger than `limits` allow."""
    if not 0 < height * width <= limits.max_image_pixels:
        raise LimitExceededError(
            f"{field} must have 1 to {limits.max_image_pixels} pixels, got {height} x {width}"
        )
    if max(height, width) > limits.max_image_side:
        raise LimitExceededError(
            f"{field} must have sides of at most {limits.max_image_side}, got {height} x {width}"
        )


def to_canvas(image: UInt8) -> tuple[UInt8, tuple[int, int]]:
    """Resize RGB (H, W, 3) to longest side 1024 (PIL bilinear) onto a canvas (1024, 1024, 3).

    Returns the canvas, zero where the image is not, and the image's size (h, w) on it.
    """
    height, width = preprocess_shape(image.shape[0], image.shape[1], MODEL_SIDE)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    canvas = np.zeros((MODEL_SIDE, MODEL_SIDE, 3), np.uint8)
    canvas[:height, :width] = np.asarray(resized)
    return canvas, (height, width)
