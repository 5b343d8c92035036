"""Images in all the forms in which callers have them, as RGB of 8 bits.

A JPEG or PNG file that the server reads as the client does is sent as it is. All else becomes an
array here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from sam_refine.contract import InvalidRequestError
from sam_refine_client.arrays import UInt8
from sam_refine_client.decoding import decoding
from sam_refine_client.reading.arrays import (
    AnyArray,
    check_filled,
    content_of_opened,
    is_array,
    numpy_of,
    without_batch,
)
from sam_refine_client.reading.mistaken import check_path
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.pixels import (
    ORIENTATION,
    TURNED_A_QUARTER,
    PictureFile,
    content_of,
    deep_pixels,
    is_cut_to_a_byte,
    opened,
    orientation_of,
    values_of,
)
from sam_refine_client.reading.scores import is_of_turned

ImageLike: TypeAlias = AnyArray | Image.Image | bytes | str | PathLike[str] | BinaryIO
"""RGB (H, W, 3) uint8 or another array of an image, a PIL image, or a file: bytes, path, opened."""

_AS_THEY_ARE: Final = ("JPEG", "PNG")
"""Files that the server decodes."""
_CHANNELS: Final = (1, 2, 3, 4)
_LARGEST_LOW: Final = 2.0
"""Floats up to 1 are shares, floats beyond this are values up to 255; between they are neither."""
_ROUNDING: Final = 1e-3
"""The share of the range by which floats may be beyond it, as resizing rounds."""
_SURELY_BYTES: Final = 20
"""Floats beyond this are values up to 255, whatever they were."""
_NEARLY_1: Final = 0.9
_OVERSHOOT: Final = 0.2
"""How far resizing of higher order goes beyond the values that it is given."""


@dataclass(frozen=True)
class ReadImage:
    """An image as it goes to the server."""

    size_hw: tuple[int, int]
    pixels: UInt8 | None = None
    """(H, W, 3) RGB."""
    file: bytes | None = None
    """JPEG or PNG, instead of the pixels."""


def read_image(
    image: ImageLike,
    notes: Notes,
    *,
    like_hw: tuple[int, int] | None = None,
    scores_hw: tuple[int, int] | None = None,
) -> ReadImage:
    """An image for the server. `like_hw` is the size (H, W) of its label map, if that is known;
    where there is none, `scores_hw` is that of its scores (h, w).

    The pixels of a file are taken as they are stored, its EXIF orientation aside: unless the label
    map, or the scores, fit the upright picture only. Raises `InvalidRequestError` for what is no
    image, and `OSError` for a file that cannot be read.
    """
    like = Like(like_hw, scores_hw)
    if isinstance(image, Image.Image):
        return _read_picture(image, notes, like)
    if isinstance(image, str | PathLike):
        path = fspath(image)
        check_path("image", path, "or give its bytes: urllib.request.urlopen(url).read()")
        return _read_file(Path(path).name, Path(path).read_bytes(), notes, like)
    image = content_of_opened(image)  # from its start: the image of a result is read again
    if isinstance(image, bytes | bytearray | memoryview):
        return _read_file("image", bytes(image), notes, like)
    if isinstance(image, np.ndarray) or is_array(image):
        pixels = rgb_of_array(numpy_of("image", image), notes)
        return ReadImage((pixels.shape[0], pixels.shape[1]), pixels)
    hint = ""
    if isinstance(image, Mapping):
        hint = f' of {", ".join(map(str, image))}; give the one that is the image: image["..."]'
    elif isinstance(image, list | tuple):
        hint = "; give one: image[0]" if any(map(is_array, image)) else "; give np.asarray(image)"
    raise InvalidRequestError(
        f"image must be an array, a PIL image, bytes or a path, got {type(image).__name__}{hint}"
    )


def rgb_of(image: ImageLike, like_hw: tuple[int, int] | None = None) -> UInt8:
    """(H, W, 3) uint8: the pixels as `read_image` takes them; raises as it does."""
    read = read_image(image, Notes(), like_hw=like_hw)
    if read.pixels is not None:
        return read.pixels
    assert read.file is not None
    with opened("image", read.file) as picture:
        return np.asarray(picture.convert("RGB"))


def upright_rgb_of(name: str, path: Path, notes: Notes) -> UInt8:
    """(H, W, 3) uint8 of a file, turned as its EXIF data say, which is how browsers show it."""
    with opened(name, path) as picture:
        turn = _turn(picture)
        is_turned = orientation_of(picture) != 1 and picture.format != "TIFF"
    pixels = _rgb_of_file(name, path, notes)
    if not is_turned:
        return pixels
    notes.add(f"{name} is turned upright, as its EXIF data say and browsers show it")
    return np.ascontiguousarray(turn(pixels))


def check_rgb(image: UInt8) -> None:
    """Raise `InvalidRequestError` for an array that is not (H, W, 3) uint8 with pixels."""
    if image.dtype != np.uint8:
        raise InvalidRequestError(f"image must be uint8, got {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InvalidRequestError(
            f"image must have shape (H, W, 3), H and W at least 1, got {image.shape}"
        )


# --- Files and PIL images --------------------------------------------------------------------


def _read_file(name: str, file: bytes, notes: Notes, like: Like) -> ReadImage:
    with opened(name, file) as picture:
        size_hw = picture.height, picture.width
        is_sent = picture.format in _AS_THEY_ARE and _is_byte_deep(picture)
        turn = _turn_to_fit(name, picture, notes, like)
        if is_sent and turn is None:
            _note_loss(name, picture, notes)
            return ReadImage(size_hw, file=file)
    return _turned(_rgb_of_file(name, file, notes), turn)


def _read_picture(picture: Image.Image, notes: Notes, like: Like) -> ReadImage:
    """A PIL image; one that is not decoded yet is read as its file would be."""
    turn = _turn_to_fit("image", picture, notes, like)
    if not is_cut_to_a_byte(picture):
        with decoding("image must be an undamaged picture"):
            return _turned(_rgb_of_picture("image", picture, notes), turn)
    content = content_of(picture)
    if content is None:
        raise InvalidRequestError(
            "image must have 8 bits per channel, got a PIL image of 16; give its path"
        )
    return _turned(rgb_of_array(deep_pixels("image", content), notes), turn)


@dataclass(frozen=True)
class Like:
    """What is known of an image's map before the image is read."""

    labels_hw: tuple[int, int] | None
    scores_hw: tuple[int, int] | None

    def of_turned(self, size_hw: tuple[int, int]) -> str | None:
        """Why the map is not of an image of (H, W), but of that turned by a quarter; or None."""
        if self.labels_hw is not None:
            is_turned = self.labels_hw == size_hw[::-1] != size_hw
            return "the labels have that size" if is_turned else None
        is_turned = self.scores_hw is not None and is_of_turned(self.scores_hw, size_hw)
        return "only so the scores have its proportions" if is_turned else None


EXIF_NOTE: Final = "has the EXIF orientation"
"""In what is said of a photo that is taken as it is stored."""


Turn: TypeAlias = Callable[[UInt8], UInt8]


def _turned(pixels: UInt8, turn: Turn | None) -> ReadImage:
    if turn is not None:
        pixels = np.ascontiguousarray(turn(pixels))
    return ReadImage((pixels.shape[0], pixels.shape[1]), pixels)


def _turn_to_fit(name: str, picture: Image.Image, notes: Notes, like: Like) -> Turn | None:
    """What turns a picture as its EXIF data say, where its map fits it only so."""
    orientation = orientation_of(picture)
    if orientation == 1:
        return None
    if picture.format == "TIFF":  # which Pillow turns as it decodes it
        notes.add(f"{name} is turned upright, as its TIFF orientation {orientation} says")
        return None
    size_hw = picture.height, picture.width
    if orientation in TURNED_A_QUARTER and (why := like.of_turned(size_hw)):
        notes.add(f"{name} is turned upright, as its EXIF data say, because {why}")
        return _turn(picture)
    notes.add(
        f"{name} {EXIF_NOTE} {orientation}: its pixels are taken as they are stored; "
        "if your network saw it upright, give "
        "image=PIL.ImageOps.exif_transpose(PIL.Image.open(...))"
    )
    return None


def _rgb_of_file(name: str, file: PictureFile, notes: Notes) -> UInt8:
    with opened(name, file) as picture:
        if not is_cut_to_a_byte(picture):
            return _rgb_of_picture(name, picture, notes)
    return rgb_of_array(deep_pixels(name, file), notes, name)


def _rgb_of_picture(name: str, picture: Image.Image, notes: Notes) -> UInt8:
    if not _is_byte_deep(picture):
        return rgb_of_array(values_of(picture), notes, name)
    rule = f"{name} must be a picture that can be made RGB, got the mode {picture.mode}"
    with decoding(rule, "; give an array (H, W, 3) uint8"):  # such as premultiplied alpha
        pixels: UInt8 = np.asarray(picture.convert("RGB"))
    _note_loss(name, picture, notes)
    check_rgb(pixels)
    return pixels


def _is_byte_deep(picture: Image.Image) -> bool:
    return not (picture.mode.startswith(("I", "F")) or is_cut_to_a_byte(picture))


def _note_loss(name: str, picture: Image.Image, notes: Notes) -> None:
    """Say what of a picture does not go to SAM."""
    if getattr(picture, "n_frames", 1) > 1:
        notes.add(f"{name} has {picture.n_frames} frames: the first is taken")  # type: ignore[attr-defined]
    if picture.mode == "CMYK":
        notes.add(f"{name} is CMYK: made RGB without its colour profile")
    has_alpha = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    if has_alpha and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        notes.add(_NO_ALPHA.format(name=name))


_NO_ALPHA: Final = (
    "{name} has transparent pixels: their colours are taken as they are stored, alpha is dropped"
)


def _turn(picture: Image.Image) -> Turn:
    """What turns pixels as the picture's EXIF data say."""
    orientation = orientation_of(picture)

    def turn(pixels: UInt8) -> UInt8:
        stored = Image.fromarray(pixels)
        stored.getexif()[ORIENTATION] = orientation
        return np.asarray(ImageOps.exif_transpose(stored))

    return turn


# --- Arrays ----------------------------------------------------------------------------------


def rgb_of_array(array: AnyArray, notes: Notes, name: str = "image") -> UInt8:
    """(H, W, 3) uint8 of an array of an image: an RGB one as it is.

    Grey (H, W) or (H, W, 1), with or without alpha, channels first, an axis of 1 before them;
    floats in [0, 1] or [0, 255]; integers of 8 bits, or of 10 to 16, which are scaled by the bits
    in use. Raises `InvalidRequestError` for anything else.
    """
    check_filled(name, array)
    array = _channels_last(name, without_batch(name, array, 3))
    if array.shape[2] in (2, 4):
        alpha, array = array[..., -1], array[..., :-1]
        if alpha.min() < alpha.max() or alpha.max() == 0:
            notes.add(_NO_ALPHA.format(name=name))
    if array.dtype.kind in "iu" and array.min() == 0 and array.max() == 1:
        notes.add(f"{name} has no value above 1: if it was in [0, 1], give it as floats")
    if array.dtype != np.uint8:
        array = _as_bytes(name, array, notes)
    pixels: UInt8 = array if array.shape[2] == 3 else np.repeat(array, 3, axis=2)
    return pixels


def _window(name: str) -> str:
    """What to do with values that are no picture's."""
    return f"if they are measured, as in CT, give a window: np.clip(({name} - low) / width, 0, 1)"


def _channels_last(name: str, array: AnyArray) -> AnyArray:
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3:
        if array.shape[2] in _CHANNELS:
            return array
        if array.shape[0] in (1, 3, 4):
            return array.transpose(1, 2, 0)
    hint = ""
    if array.ndim == 3:
        channels = "..., " if array.shape[2] < array.shape[0] else ""
        hint = f"; of more channels give three: {name}[{channels}[red, green, blue]]"
    raise InvalidRequestError(
        f"{name} must have shape (H, W, 3), H and W at least 1, got {array.shape}{hint}"
    )


def _as_bytes(name: str, array: AnyArray, notes: Notes) -> UInt8:
    if array.dtype.kind == "f":
        return _of_floats(name, array)
    if array.dtype.kind not in "iu":
        hint = "; a mask goes to labels=" if array.dtype == np.bool_ else ""
        raise InvalidRequestError(f"{name} must be uint8, got {array.dtype}{hint}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise InvalidRequestError(
            f"{name} must have values in [0, 255], or in [0, 65535] of 16 bits, got {low} to {high}"
            f"; {_window(name)}"
        )
    is_deep = array.dtype.itemsize == 2 or high > 255
    if not is_deep:
        narrow: UInt8 = array.astype(np.uint8)
        return narrow
    bits = next(each for each in (8, 10, 12, 14, 16) if high < 2**each)
    if bits < 16:
        notes.add(
            f"{name} has 16 bits per channel, of which {bits} are in use (at most {high}): scaled "
            f"by 255 / {2**bits - 1}; if that is wrong, give an array (H, W, 3) uint8"
        )
    largest = 2**bits - 1
    scaled = (array.astype(np.uint32) * 255 + largest // 2) // largest
    narrowed: UInt8 = scaled.astype(np.uint8)
    return narrowed


def _of_floats(name: str, array: AnyArray) -> UInt8:
    low, high = float(array.min()), float(array.max())
    wrong = _wrong_in_floats(name, low, high)
    if wrong is not None:
        raise InvalidRequestError(f"{name} of floats must be in [0, 1], or in [0, 255], {wrong}")
    largest = 1 if high <= 1 + _ROUNDING else 255
    if low < 0 or high > largest:
        array = np.clip(array, 0, largest)
    rounded: UInt8 = np.rint(array.astype(np.float32) * (255 // largest)).astype(np.uint8)
    return rounded


def _wrong_in_floats(name: str, low: float, high: float) -> str | None:
    """Why floats from `low` to `high` are no image, and what to do; None if they are one.

    They may be beyond [0, 1] or [0, 255] by as much as resizing rounds.
    """
    if not np.isfinite([low, high]).all():
        return "got NaN or infinite values"
    are_shares, are_bytes = high <= 1 + _ROUNDING, high > _SURELY_BYTES
    found = f"got {low:g} to {high:g}"
    if low < -_ROUNDING * (1 if are_shares else 255 if are_bytes else 0):
        if -1 - _ROUNDING <= low < -_NEARLY_1 and high > _NEARLY_1 and are_shares:
            return f"{found}; if it is in [-1, 1], give ({name} + 1) / 2"
        if low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT:
            return f"{found}; if resizing overshot, give np.clip({name}, 0, 1)"
        if low < -255:
            return f"{found}; {_window(name)}"
        return f"{found}; if it was normalised, undo that: image * std + mean"
    if high > 255 * (1 + _ROUNDING):
        return f"got up to {high:g}; give {name} / {name}.max()"
    if not are_shares and high <= _LARGEST_LOW:
        return f"got up to {high:g}; give np.clip({name}, 0, 1)"
    return None


def image_name_of(image: Any) -> str | None:
    """The file name of an image, if it has one."""
    if isinstance(image, str | PathLike):
        return Path(fspath(image)).name
    name = getattr(image, "filename", None)
    return Path(name).name if isinstance(name, str) and name else None
