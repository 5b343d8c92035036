"""The pixels of picture files as the file has them: by its bit depth, never stretched or cut.

Pillow gives 16 bits per channel as their upper byte, and grey of 2 or 4 bits as values from 0 to
255. What its decoders were told to do (a picture's `tile`) says which of the two it is.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from sam_refine.contract import InvalidRequestError, Limits
from sam_refine_client.decoding import decoding, in_one_line
from sam_refine_client.reading.arrays import AnyArray
from sam_refine_client.reading.mistaken import FILE_HEAD, PICTURE_KINDS, kind_of_file

PictureFile: TypeAlias = bytes | str | PathLike[str]
"""The content of a file, or its path."""

_STRETCHED: Final = {"L;2": 85, "L;4": 17}
"""Modes of the file in which Pillow multiplies each value."""
_OTHER_BYTE: Final = {
    "16B": "16L",
    "16L": "16B",
    "16N": "16B" if sys.byteorder == "little" else "16L",
}
"""What has Pillow's decoder take the lower byte where it would take the upper one."""
ORIENTATION: Final = 0x0112
TURNED_A_QUARTER: Final = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""


@contextmanager
def opened(name: str, file: PictureFile) -> Iterator[Image.Image]:
    """A picture whose pixels are not decoded yet, and are not too many.

    Raises `InvalidRequestError` for what is no picture, is damaged, or is larger than any server
    takes by default; `OSError` for a file that cannot be read.
    """
    if not isinstance(file, bytes):
        with Path(file).open("rb"):  # its error names the file
            pass
    content = io.BytesIO(file) if isinstance(file, bytes) else file
    rule = f"{name} must be an undamaged picture"
    try:
        with decoding(rule), Image.open(content) as picture:
            check_pixels(name, picture.size)
            yield picture
    except UnidentifiedImageError as error:
        raise InvalidRequestError(
            f"{name} must be a picture such as JPEG or PNG, got {_kind(file)}"
        ) from error
    except OSError as error:  # Pillow's, of bytes that end too early
        raise InvalidRequestError(f"{rule}: {in_one_line(error)}") from error


def check_pixels(name: str, size: tuple[int, int]) -> None:
    """Raise `InvalidRequestError` for a picture (width, height) that no server takes by default.

    Before it is decoded: a few kilobytes of PNG may be gigabytes of pixels.
    """
    width, height = size
    if width * height > Limits.max_image_pixels:
        raise InvalidRequestError(
            f"{name} must have at most {Limits.max_image_pixels} pixels, got {height} x {width}; "
            "scale it down, or give a label map as .npy"
        )


def file_mode(picture: Image.Image) -> str:
    """How the file stores pixels, as Pillow's decoders call it: "RGB;16B", "L;4"; "" if unknown."""
    tiles = getattr(picture, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def is_cut_to_a_byte(picture: Image.Image) -> bool:
    """Whether Pillow would give the upper bytes of a picture of 16 bits per channel."""
    return ";16" in file_mode(picture) and not picture.mode.startswith("I")


def deep_pixels(name: str, file: PictureFile) -> AnyArray:
    """(H, W, channels) uint16 of a picture of which Pillow would give the upper bytes.

    Raises `InvalidRequestError` for a kind of file in which the lower bytes cannot be had.
    """
    with opened(name, file) as picture:
        mode, kind = file_mode(picture), picture.format
        bands, _, depth = mode.partition(";")
        if bands == "LA":  # there is no decoder for the lower bytes: all four as they are
            both = _decoded_as(picture, "RGBA", "RGBA").astype(np.uint16)
            return both[..., 0::2] << 8 | both[..., 1::2]
        if bands not in ("RGB", "RGBA") or depth not in _OTHER_BYTE:
            raise InvalidRequestError(
                f"{name} must have 8 bits per channel, or 16 in a PNG, got {kind} of {mode}; "
                "convert it to 8 bits per channel"
            )
        upper = np.asarray(picture).astype(np.uint16)
    with opened(name, file) as picture:
        return upper << 8 | _decoded_as(picture, bands, f"{bands};{_OTHER_BYTE[depth]}")


def _decoded_as(picture: Image.Image, mode: str, file_mode: str) -> AnyArray:
    """What a picture's decoders give that are told that the file has another mode."""
    told = picture.tile  # type: ignore[attr-defined]
    changed = []
    for codec, extents, offset, arguments in told:
        rest = arguments[1:] if isinstance(arguments, tuple) else ()
        given = (file_mode, *rest) if isinstance(arguments, tuple) else file_mode
        changed.append((codec, extents, offset, given))
    picture.tile = changed  # type: ignore[attr-defined]
    picture._mode = mode
    return np.asarray(picture)


def raw_pixels(name: str, file: PictureFile) -> AnyArray:
    """The values of a picture's pixels: (H, W) of grey or of indices, or (H, W, 2 to 4).

    Grey of 1, 2 or 4 bits has its raw values, 16 bits per channel are uint16. Raises
    `InvalidRequestError`, `OSError`.
    """
    with opened(name, file) as picture:
        if not is_cut_to_a_byte(picture):
            return values_of(picture)
    return deep_pixels(name, file)


def values_of(picture: Image.Image) -> AnyArray:
    """`raw_pixels` of a picture that has no more than 8 bits per channel, or is grey."""
    factor = next(
        (each for mode, each in _STRETCHED.items() if file_mode(picture).startswith(mode)), 1
    )
    if picture.mode not in ("1", "L", "P", "F", "LA", "RGB", "RGBA") and picture.mode[0] != "I":
        picture = picture.convert("RGBA" if picture.mode in ("PA", "La", "RGBa") else "RGB")
    values = np.asarray(picture)
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.byteorder == ">":  # "I;16B"
        values = values.astype(values.dtype.newbyteorder("="))
    return values // factor if factor > 1 else values


def content_of(picture: Image.Image) -> bytes | None:
    """The file of a picture that was opened, but not decoded yet; None if it cannot be had."""
    file: Any = getattr(picture, "fp", None)
    if not getattr(picture, "tile", None) or file is None:
        return None
    place = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(place)
    return content


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation: 1 is upright."""
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # to look behind the pixels would decode them
    try:
        with decoding("EXIF data"):
            found = picture.getexif().get(ORIENTATION, 1)
    except (InvalidRequestError, OSError):
        return 1  # damaged, they say nothing
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _kind(file: PictureFile) -> str:
    """What a file is that Pillow does not know."""
    if isinstance(file, bytes):
        head = file[:FILE_HEAD]
    else:
        with Path(file).open("rb") as stream:
            head = stream.read(FILE_HEAD)
    kind = kind_of_file(head)
    if kind in PICTURE_KINDS:
        return f"{kind} that is damaged, or of a form that Pillow does not read; give an array"
    if kind == "a .npy":
        return f"{kind}; give its array: np.load(...)"
    if kind is not None:
        return kind
    return f"{len(file)} bytes" if isinstance(file, bytes) else "something else"
