"""Uploads as arrays. Every function raises `InvalidRequestError`, with one sentence."""

from __future__ import annotations

import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from sam_refine.contract import InvalidRequestError, Limits
from sam_refine_client.arrays import Labels, UInt8
from sam_refine_client.inputs.files import check_pixels

MAX_LABEL: Final = 65535
"""The largest label that a PNG of the refined map can hold."""
_MOST_STRETCHED: Final = 1.05
"""A label map whose proportions differ by more than this belongs to another photo."""
_LABEL_MODES: Final = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")


def read_photo(path: Path) -> UInt8:
    """RGB (H, W, 3), turned as its EXIF data say, which is how browsers show it."""
    limits = Limits()
    with _opened("the photo", path) as picture:
        width, height = picture.size
        if max(width, height) > limits.max_image_side or width * height > limits.max_image_pixels:
            raise InvalidRequestError(
                f"the photo must have at most {limits.max_image_pixels} pixels and sides of at "
                f"most {limits.max_image_side}, got {width} x {height}"
            )
        if picture.mode.startswith(("I", "F")):
            raise InvalidRequestError(
                f"the photo must have 8 bits per channel, got the mode {picture.mode}"
            )
        upright = ImageOps.exif_transpose(picture)
        return np.asarray(upright.convert("RGB"))


def read_labels(path: Path, size_hw: tuple[int, int]) -> Labels:
    """Labels (H, W) in [0, 65535] from a palette or grey PNG, or from integers as .npy.

    A map of another resolution is stretched to `size_hw`, which makes no new values.
    """
    labels = _npy_labels(path) if path.suffix.lower() == ".npy" else _picture_labels(path)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MAX_LABEL:
        raise InvalidRequestError(
            f"labels must be in [0, {MAX_LABEL}], got {low if low < 0 else high}"
        )
    (height, width), (own_height, own_width) = size_hw, labels.shape
    stretch = (height * own_width) / (own_height * width)
    if not 1 / _MOST_STRETCHED <= stretch <= _MOST_STRETCHED:
        raise InvalidRequestError(
            f"the label map must have the photo's shape, got {own_width} x {own_height} "
            f"for a photo of {width} x {height}"
        )
    rows = (np.arange(height) * own_height // height)[:, None]
    columns = np.arange(width) * own_width // width
    stretched: Labels = labels[rows, columns].astype(np.int32)
    return stretched


def read_scores(path: Path) -> npt.NDArray[Any]:
    """Class scores (C, h, w) from numbers as .npy; the client checks everything else."""
    return _npy("the class scores", path)


def _npy_labels(path: Path) -> npt.NDArray[Any]:
    labels = _npy("the label map", path)
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise InvalidRequestError(
            f"the label map must be (H, W) integers, got {labels.shape} {labels.dtype}"
        )
    return labels


def _picture_labels(path: Path) -> npt.NDArray[Any]:
    with _opened("the label map", path) as picture:
        if picture.mode not in _LABEL_MODES or picture.format != "PNG":
            raise InvalidRequestError(
                "the label map must be a PNG with a palette or in grey, whose pixel values are the "
                f"labels, or .npy, got {picture.format} of mode {picture.mode}"
            )
        check_pixels("the label map", picture.size)
        return np.asarray(picture)


def _npy(what: str, path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file: never unpickled, never larger than its file."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, OSError, tokenize.TokenError) as error:
        raise InvalidRequestError(
            f"{what} must be a .npy file of numbers, got something else"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InvalidRequestError(f"{what} must be a .npy file, got an archive of arrays")
    if array.size == 0:
        raise InvalidRequestError(f"{what} must have values, got {array.shape}")
    return np.array(array)


@contextmanager
def _opened(what: str, path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as picture:
            yield picture
    except UnidentifiedImageError as error:
        raise InvalidRequestError(f"{what} must be a picture, got something else") from error
    except (Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise InvalidRequestError(f"{what} cannot be read: {error}") from error
