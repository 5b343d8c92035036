"""What is read from files."""

from __future__ import annotations

import json
import tokenize
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError, Limits

_LABEL_MODES: Final = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
_NO_ARRAY: Final = (
    ValueError,
    TypeError,
    OverflowError,
    EOFError,
    SyntaxError,
    MemoryError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
"""What numpy and zipfile raise of bytes that are damaged, or are something else."""


def load_array(path: Path) -> npt.NDArray[Any]:
    """A .npy file; raises `InvalidRequestError` where it is none (never unpickles)."""
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except _NO_ARRAY as error:
        raise InvalidRequestError(f"{path} must be a .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidRequestError(f"{path} must be a .npy file, got an archive of arrays")
    return array


def load_labels(path: Path) -> npt.NDArray[Any]:
    """Labels (H, W) as .npy, or as a PNG with a palette or in grey whose pixel values they are.

    Raises `InvalidRequestError` where the file is neither, `OSError` where it cannot be read.
    """
    if path.suffix.lower() != ".png":
        return load_array(path)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.mode not in _LABEL_MODES:
                raise InvalidRequestError(
                    f"{path} must have a palette or be grey, its pixel values are the labels; got "
                    f"the mode {picture.mode}"
                )
            check_pixels(str(path), picture.size)
            return np.asarray(picture).astype(np.int32)
    except InvalidRequestError:
        raise
    except (
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        raise InvalidRequestError(f"{path} must be a PNG: {error}") from error


def check_pixels(name: str, size: tuple[int, int]) -> None:
    """Raise `InvalidRequestError` for a picture (width, height) that no server takes by default.

    Before it is decoded: a few kilobytes of PNG may be gigabytes of pixels.
    """
    width, height = size
    if width * height > Limits.max_image_pixels:
        raise InvalidRequestError(
            f"{name} must have at most {Limits.max_image_pixels} pixels, got {height} x {width}; "
            "larger maps are read as .npy"
        )


def load_class_names(path: Path) -> list[str]:
    """The lines of a text file: names of classes 0, 1, ...; raises `InvalidRequestError`."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise InvalidRequestError(f"{path} must be a text file in UTF-8: {error}") from error


def load_options(path: Path) -> dict[str, Any]:
    """Request options of a JSON object, or of its key `options`; raises `InvalidRequestError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequestError(f"{path} must be JSON: {error}") from error
    if isinstance(content, dict) and "options" in content:
        content = content["options"]
    if not isinstance(content, dict):
        raise InvalidRequestError(
            f"{path} must have a JSON object of options, or one at the key options, "
            f"got {type(content).__name__}"
        )
    return content
