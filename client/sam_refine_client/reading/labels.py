"""Label maps of anything that callers have: (H, W) of class ids, and the label of void."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence

from sam_refine.contract import InvalidRequestError
from sam_refine_client.arrays import Labels, Mask, UInt8
from sam_refine_client.decoding import decoding
from sam_refine_client.reading.arrays import (
    AnyArray,
    check_filled,
    content_of_opened,
    is_array,
    numpy_of,
    pixel_data,
    without_batch,
)
from sam_refine_client.reading.coco import labels_of_coco, looks_like_coco
from sam_refine_client.reading.mistaken import (
    LARGEST_ID,
    OTHER_JSON,
    TEXT_SUFFIXES,
    check_colours_of,
    check_not_instances,
    check_not_polygons,
    check_path,
    kind_of_json,
    look_at_greys,
    look_at_instances,
    masks_as_labels,
    masks_axis,
    note_counts_from_1,
)
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.palettes import (
    Palette,
    PaletteLike,
    labels_of_colours,
    note_other_order,
    read_palette,
)
from sam_refine_client.reading.pixels import opened, raw_pixels, values_of
from sam_refine_client.reading.score_files import (
    LABEL_NAMES,
    OF_NUMPY,
    SCORE_SUFFIXES,
    array_in,
    load_array,
)

LabelsLike: TypeAlias = Any
"""An array of any library, a PIL image, a file's path or content, COCO's annotations, a mask for
each class by its id or name, or what a pipeline of Hugging Face's returns."""

LABEL_SUFFIXES: Final = (".npy", ".npz", ".png", ".bmp", ".tif", ".tiff", ".gif", ".pt", ".json")
VOID: Final = 255
WIDE_VOID: Final = 65535
"""How void is written where 255 may be a class."""
_LOSSY: Final = ("JPEG", "WEBP", "JPEG2000", "MPO")
_INT32: Final = np.iinfo(np.int32)
_STRETCHES: Final = {85: 2, 17: 4}
"""What Pillow multiplies labels by that a PNG has in so many bits."""


@dataclass(frozen=True, eq=False)
class ReadLabels:
    """A label map, and its void."""

    values: Labels
    """(H, W)."""
    void: int | None = None
    """The label of pixels of no class, if there are such or the caller named it."""


def read_labels(
    labels: LabelsLike,
    notes: Notes,
    *,
    size_hw: tuple[int, int] | None = None,
    palette: PaletteLike | None = None,
    void: int | None = None,
    classes: int | None = None,
    image_name: str | None = None,
    name: str = "labels",
) -> ReadLabels:
    """Class ids (H, W) of a label map, of the image's `size_hw` if that is known.

    `void` is the caller's `ignore_label`. Where there is none, -1 is void, and 255 where it cannot
    be a class: there are `classes` of them, or other labels beside it and 0. Void that is below 0
    becomes 255, or 65535 where 255 may be a class. Where there are two classes, a mask of 0 and 255
    is one of 0 and 1. `palette` has the colours of a coloured map.
    `image_name` finds the image in a COCO file. Raises `InvalidRequestError`, and `OSError` for a
    file that cannot be read.
    """
    table = None if palette is None else read_palette(palette)
    array, name = _values(labels, notes, table, size_hw, image_name, name)
    void = _named_void(table, void)
    values = _class_ids(name, array)
    if size_hw is not None and values.shape == size_hw[::-1] != size_hw:
        raise InvalidRequestError(
            f"{name} must have the image's size, {size_hw[0]} x {size_hw[1]}, got "
            f"{values.shape[0]} x {values.shape[1]}, which is like (W, H); give labels.T"
        )
    if size_hw is not None and values.shape != size_hw:
        raise InvalidRequestError(
            f"{name} must have the image's size, {size_hw[0]} x {size_hw[1]}, got "
            f"{values.shape[0]} x {values.shape[1]}; give "
            "np.asarray(PIL.Image.fromarray(labels.astype(np.int32))"
            f".resize(({size_hw[1]}, {size_hw[0]}), PIL.Image.Resampling.NEAREST))"
        )
    return _as_two_classes(name, _with_void(name, values, notes, void, classes), classes, notes)


def load_labels(
    path: Path,
    notes: Notes,
    *,
    palette: PaletteLike | None = None,
    void: int | None = None,
    size_hw: tuple[int, int] | None = None,
    image_name: str | None = None,
) -> ReadLabels:
    """A label file as it is, (H, W) of whatever size, with the void that palette or caller name.

    Arguments are those of `read_labels`, which says what else is void; raises as it does.
    """
    table = None if palette is None else read_palette(palette)
    array, name = _values(path, notes, table, size_hw, image_name, str(path))
    values = _class_ids(name, array)
    void = _named_void(table, void)
    ids = np.unique(values).tolist()
    look_at_instances(name, [label for label in ids if label != void], notes)
    if void is None and ids[0] >= 0:
        _look_at(name, values, ids, None, notes)
    return ReadLabels(values, void)


def _named_void(table: Palette | None, void: int | None) -> int | None:
    """The caller's, else that of the colours."""
    return VOID if void is None and table is not None and table.has_void else void


def labels_size_of(labels: LabelsLike) -> tuple[int, int] | None:
    """(H, W) of a label map before it is read, if that is easily told."""
    if isinstance(labels, Image.Image):
        return labels.height, labels.width
    if isinstance(labels, Mapping):
        return None
    if isinstance(labels, str | PathLike):
        path = Path(fspath(labels))
        if path.suffix.lower() in (".json", *TEXT_SUFFIXES, *SCORE_SUFFIXES):
            return None
        with opened(path.name, path) as picture:
            return picture.height, picture.width
    shape = tuple(getattr(labels, "shape", ()))
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return (int(shape[0]), int(shape[1])) if len(shape) in (2, 3) else None


def stretched(labels: Labels, size_hw: tuple[int, int], notes: Notes) -> Labels:
    """Labels of another size (h, w) and the same proportions as an image's, by nearest neighbour.

    It makes no new values. Raises `InvalidRequestError` for other proportions.
    """
    (height, width), (own_height, own_width) = size_hw, labels.shape
    if labels.shape == size_hw:
        return labels
    stretch = (height * own_width) / (own_height * width)
    if not 1 / _MOST_STRETCHED <= stretch <= _MOST_STRETCHED:
        raise InvalidRequestError(
            f"the label map must have the photo's shape, got {own_width} x {own_height} "
            f"for a photo of {width} x {height}"
        )
    notes.add(
        f"the label map of {own_width} x {own_height} is stretched to the photo's "
        f"{width} x {height}"
    )
    rows = (np.arange(height) * own_height // height)[:, None]
    columns = np.arange(width) * own_width // width
    larger: Labels = labels[rows, columns]
    return larger


_MOST_STRETCHED: Final = 1.05
"""A label map whose proportions differ by more than this belongs to another image."""


# --- What holds them -------------------------------------------------------------------------


def _values(
    labels: LabelsLike,
    notes: Notes,
    palette: Palette | None,
    size_hw: tuple[int, int] | None,
    image_name: str | None,
    name: str,
) -> tuple[AnyArray, str]:
    """(H, W) of numbers, and what errors call them."""
    labels = content_of_opened(labels)
    labels = getattr(labels, "pred_sem_seg", labels)  # mmsegmentation's
    _check_not_things(name, labels)
    if _is_of_pipeline(labels):
        return _of_masks(_masks_of_pipeline(labels, notes, name), notes, name), name
    if looks_like_coco(labels):
        return labels_of_coco(labels, size_hw, image_name, notes), name
    if isinstance(labels, Mapping):
        return _of_masks(labels, notes, name), name
    if isinstance(labels, str | PathLike):
        check_path(name, fspath(labels))
        path = Path(fspath(labels))
        name = str(path) if name == "labels" else name
        check_not_instances(name)
        check_not_polygons(name)
        if path.suffix.lower() in SCORE_SUFFIXES:
            return _plane(name, load_array(path, LABEL_NAMES), palette, notes), name
        _check_lossless(name, path)
        pixels = _table_pixels(name, path, palette, notes)
        return _plane(name, pixels, palette, notes), name
    if isinstance(labels, bytes) and labels.startswith(OF_NUMPY):
        return _plane(name, array_in(labels, name, LABEL_NAMES), palette, notes), name
    if isinstance(labels, bytes):
        _check_lossless(name, labels)
        return _plane(name, _table_pixels(name, labels, palette, notes), palette, notes), name
    if isinstance(labels, Image.Image):
        _check_format(name, labels)
        with decoding(f"{name} must be an undamaged picture"):
            values = _picture_values(labels, palette)
        return _plane(name, values, palette, notes), name
    if hasattr(labels, "logits") and not is_array(labels):
        raise InvalidRequestError(
            f"{name} must be a label map, got what has logits; give it as logits"
        )
    return _plane(name, numpy_of(name, pixel_data(labels)), palette, notes), name


def _check_not_things(name: str, labels: Any) -> None:
    """Raise `InvalidRequestError` for what networks return that find things, not classes.

    Those of detectron2, torchvision, Ultralytics and supervision.
    """
    if is_array(labels) or isinstance(labels, str | bytes | list | PathLike | Image.Image):
        return
    has = labels.__contains__ if isinstance(labels, Mapping) else partial(hasattr, labels)
    if any(has(each) for each in _OF_THINGS) and any(has(each) for each in _MASKS):
        raise InvalidRequestError(
            f"{name} must be a label map, got masks of single things; give a mask for each class "
            "by its id, of all of its things: {1: mask, 2: mask}"
        )


_MASKS: Final = ("pred_masks", "masks", "mask")
_OF_THINGS: Final = ("pred_classes", "boxes", "class_id", "labels", "scores")
"""What stands beside the masks."""


def _is_of_pipeline(labels: Any) -> bool:
    """Whether it is what Hugging Face's pipeline("image-segmentation") returns of an image."""
    return isinstance(labels, list) and any(
        isinstance(each, Mapping) and {"label", "mask"} <= each.keys() for each in labels
    )


def _masks_of_pipeline(found: list[Any], notes: Notes, name: str) -> dict[str, Mask]:
    """A mask for each class: those of several things of it are one."""
    masks: dict[str, Mask] = {}
    for each in found:
        label = str(each["label"])
        array, called = _values(each["mask"], notes, None, None, None, f"{name} of {label}")
        where = _mask_of(called, _class_ids(called, array))
        if label in masks and masks[label].shape != where.shape:
            raise InvalidRequestError(f"{called} must be masks of one size")
        masks[label] = masks[label] | where if label in masks else where
    return masks


def _of_masks(masks: Mapping[Any, Any], notes: Notes, name: str) -> Labels:
    """(H, W) of a mask for each class: by ids, or by names, which are numbered from 1.

    What no mask covers is class 0, or void if there is a mask of it.
    """
    if not masks:
        raise InvalidRequestError(f"{name} must have a mask for at least one class, got none")
    if (kind := kind_of_json(masks)) != OTHER_JSON:
        raise InvalidRequestError(f"{name} must be a label map, got {kind}")
    if {"counts", "size"} <= masks.keys():
        raise InvalidRequestError(
            f"{name} is a run-length mask of one thing; give COCO's annotations: "
            "[{'category_id': 1, 'segmentation': mask}]"
        )
    has_ids = all(_is_id(key) for key in masks)
    too_long = [key for key in masks if has_ids and len(str(key)) > len(str(LARGEST_ID))]
    if too_long:
        raise InvalidRequestError(
            f"{name} must be class ids of at most {LARGEST_ID}, got {too_long[0]!s:.80}"
        )
    ids = {key: int(key) if has_ids else number for number, key in enumerate(masks, start=1)}
    labels: Labels | None = None
    overlap = 0
    for key, mask in masks.items():
        if mask is None:  # a class that this image has not
            continue
        array, _ = _values(mask, notes, None, None, None, f"{name} of {key}")
        where = _mask_of(f"{name} of {key}", _class_ids(name, array))
        if labels is None:
            labels = np.full(where.shape, -1 if 0 in ids.values() else 0, np.int32)
            taken = np.zeros(where.shape, np.bool_)
        if where.shape != labels.shape:
            raise InvalidRequestError(
                f"{name} must be masks of one size, got {labels.shape} and {where.shape} of {key}"
            )
        overlap += int((taken & where).sum())
        taken |= where
        labels[where] = ids[key]
    if labels is None:
        raise InvalidRequestError(f"{name} must have a mask for at least one class, got none")
    if not has_ids:
        numbers = ", ".join(f"{number} {key}" for key, number in ids.items())
        notes.add(f"{name}: the classes are numbered, 0 the rest, {numbers}")
    if overlap:
        notes.add(f"{name}: masks overlap at {overlap} pixels, where the later class counts")
    return labels


def _is_id(key: Any) -> bool:
    """Whether it is a class id: an integer, or one as text, as JSON has it."""
    return (
        isinstance(key, int | np.integer | str)
        and not isinstance(key, bool)
        and (str(key).removeprefix("-").isdecimal())
    )


def _mask_of(name: str, values: Labels) -> Mask:
    """Where the values (H, W) of a mask are not 0; there may be one other only."""
    found = np.unique(values).tolist()
    if len(found) > 2 or (len(found) == 2 and found[0] != 0) or found[0] < 0:
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        raise InvalidRequestError(
            f"{name} must be a mask, of 0 and one value above it, got {shown}; give mask == value, "
            "or mask > 127 of one with soft edges"
        )
    where: Mask = values > 0
    return where


def _check_lossless(name: str, file: Any) -> None:
    with opened(name, file) as picture:
        _check_format(name, picture)


def _check_format(name: str, picture: Image.Image) -> None:
    if picture.format in _LOSSY:
        raise InvalidRequestError(
            f"{name} must be a PNG, whose values are exact, got {picture.format}, which "
            f"{'changes' if picture.format == 'JPEG' else 'may change'} them at every border; save "
            "label maps as PNG"
        )


def _table_pixels(name: str, file: Any, palette: Palette | None, notes: Notes) -> AnyArray:
    """The values of a file; with a palette of the caller's, the colours of its indices."""
    with opened(name, file) as picture:
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            notes.add(f"{name} has {frames} frames: the first is taken{_other_frames(picture)}")
        if picture.mode != "P":
            is_indexed, table = False, None
        else:
            is_indexed, table = True, picture.getpalette("RGB")
            if palette is not None:
                return np.asarray(picture.convert("RGB"))
    pixels = raw_pixels(name, file)
    if is_indexed and table is not None:
        _look_at_table(name, pixels, table, notes)
    return pixels


def _other_frames(picture: Image.Image) -> str:
    """What to do where the first frames are masks, of which one alone is no map."""
    frames = [np.asarray(each) for each in islice(ImageSequence.Iterator(picture), _LOOKED_AT)]
    picture.seek(0)
    are_masks = all(len(np.unique(each)) <= 2 and not each.all() for each in frames)
    if not are_masks or all(np.array_equal(frames[0], each) for each in frames[1:]):
        return ""
    return "; if each is a mask of a class, give them by id: {1: mask, 2: mask}"


_LOOKED_AT: Final = 3
"""Frames of a file."""


def _look_at_table(name: str, indices: AnyArray, table: list[int], notes: Notes) -> None:
    used = np.unique(indices)
    colours = np.array(table, np.int64).reshape(-1, 3)
    used = used[used < len(colours)]
    red, green, blue = colours[used].T
    note_other_order(name, red << 16 | green << 8 | blue, used, notes)
    is_grey = bool(((red == green) & (green == blue)).all())
    is_mask = len(used) <= 2 and red.tolist() in ([], [0], [0, 255])
    if is_grey and not is_mask and (red != used).any():  # as optimisers of PNGs make of grey ones
        pairs = ", ".join(f"{at} of {grey}" for at, grey in zip(used[:4], red[:4], strict=True))
        notes.add(
            f"{name} are indices of a palette of greys, {pairs}: if the greys are classes, give "
            "np.asarray(PIL.Image.open(...).convert('L'))"
        )


def _picture_values(picture: Image.Image, palette: Palette | None) -> AnyArray:
    if picture.mode == "P" and palette is not None:
        return np.asarray(picture.convert("RGB"))
    return values_of(picture)


def _plane(name: str, array: AnyArray, palette: Palette | None, notes: Notes) -> AnyArray:
    """(H, W) of an array of labels, with axes of 1, of equal channels, or of colours."""
    check_filled(name, array)
    array = without_batch(name, array, 3)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        return array if palette is None else _of_greys(name, array, palette, notes)
    if array.ndim == 3 and (masks := _masks_axis(array)) is not None:
        raise InvalidRequestError(
            f"{name} must have shape (H, W), got {array.shape}, one mask for each class; give "
            f"{masks_as_labels('labels', *masks)}"
        )
    if array.ndim == 3 and array.shape[2] in (2, 3, 4) and array.dtype.kind in "iu":
        return _of_channels(name, array, palette, notes)
    hint = ""
    if array.ndim == 3 and array.shape[0] < min(array.shape[1:]):
        hint = "; of several maps give one: labels[0]"
    if array.ndim == 3 and array.dtype == np.uint8 and array.shape[0] in (3, 4):
        hint = "; if it is in colours, give labels.transpose(1, 2, 0)"
    if array.dtype.kind == "f":
        hint = "; if they are scores, give them as logits"
        if array.shape[0] == 3 or array.shape[2] == 3:
            hint += ", if they are the image, as image"
    raise InvalidRequestError(f"{name} must have shape (H, W), got {array.shape}{hint}")


def _masks_axis(array: AnyArray) -> tuple[int, bool] | None:
    """`masks_axis` of what is no picture: neither of equal channels, nor of colours, nor alpha."""
    is_picture = array.shape[2] in (2, 3, 4) and array.dtype.kind in "iu"
    if is_picture and (array[..., :1] == array).all():
        return None
    found = masks_axis(array)
    has_bytes = is_picture and array.max() == 255
    return None if has_bytes and (array.shape[2] > 2 or found != (2, True)) else found


def _of_greys(name: str, array: AnyArray, palette: Palette, notes: Notes) -> AnyArray:
    """(H, W) of one channel beside a palette: of its greys, or as it is where it is of ids."""
    greys = np.unique(array)
    is_byte = array.dtype.kind in "iu" and greys[0] >= 0 and 0 < greys[-1] <= 255
    if is_byte and palette.holds(greys.astype(np.int64) * 0x10101).all():
        pixels = np.repeat(array.astype(np.uint8)[..., None], 3, axis=2)
        return labels_of_colours(name, pixels, palette, notes)
    notes.add(f"{name} are in no colours: they are taken as class ids, without palette")
    return array


def _of_channels(name: str, array: AnyArray, palette: Palette | None, notes: Notes) -> AnyArray:
    """(H, W) of a map (H, W, 2 to 4): alpha is dropped, equal channels are one."""
    if array.shape[2] in (2, 4):
        alpha, array = array[..., -1], array[..., :-1]
        if alpha.max() not in (0, 255, 65535):
            raise InvalidRequestError(
                f"{name} must have shape (H, W), got {(*alpha.shape, array.shape[2] + 1)}, whose "
                f"last channel, up to {alpha.max()}, is no alpha; give one: labels[..., 0]"
            )
        if alpha.min() != alpha.max():
            notes.add(f"{name}: labels of transparent pixels count all the same")
    is_grey = array.shape[2] == 1 or bool((array == array[..., :1]).all())
    if is_grey and palette is None:
        if array.shape[2] > 1:
            notes.add(f"{name}: of three equal channels one is taken as the labels")
        return array[..., 0]
    if int(array.min()) < 0 or int(array.max()) > 255:
        raise InvalidRequestError(
            f"{name} in colours must have 8 bits per channel, got up to {array.max()}"
        )
    check_colours_of(name)
    pixels: UInt8 = array.astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return labels_of_colours(name, pixels, palette, notes)


# --- Which labels ----------------------------------------------------------------------------


def _class_ids(name: str, array: AnyArray) -> npt.NDArray[np.int32]:
    """Integers (H, W) of numbers that are whole."""
    if array.dtype == np.bool_:
        return array.astype(np.int32)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InvalidRequestError(
                f"{name} must be whole numbers, got NaN or infinite ones; if that is void, give "
                "np.where(np.isfinite(labels), labels, -1).astype(np.int32)"
            )
        if not np.array_equal(array, np.rint(array)):
            hint = ""
            if np.allclose(array * 255, np.rint(array * 255), atol=1e-3):
                hint = "; if ToTensor made them of labels, give (labels * 255).round()"
            raise InvalidRequestError(
                f"{name} must be an array of integers, got {array.dtype} with fractions; if they "
                f"are scores, give them as logits{hint}"
            )
    elif array.dtype.kind not in "iu":
        raise InvalidRequestError(f"{name} must be an array of integers, got {array.dtype}")
    low, high = array.min(), array.max()
    if not _INT32.min <= low <= high <= _INT32.max:
        wraps = array.dtype.kind == "u" and high == np.iinfo(array.dtype).max
        hint = "; if the largest is -1 for void, give labels.astype(np.int32)" if wraps else ""
        raise InvalidRequestError(f"{name} must fit int32, got {low} to {high}{hint}")
    return array.astype(np.int32)


def _with_void(
    name: str, values: Labels, notes: Notes, void: int | None, classes: int | None
) -> ReadLabels:
    """The map with its void as it is written: 255, or 65535, where it is below 0."""
    present = np.unique(values).tolist()
    negative = [label for label in present if label < 0 and label != void]
    if negative and negative != [-1]:
        raise InvalidRequestError(
            f"{name} must be class ids from 0, or -1 for void, got {negative[0]}; if that is void, "
            f"give ignore_label={negative[0]}"
        )
    ids = [label for label in present if label >= 0]
    look_at_instances(name, [label for label in ids if label != void], notes)
    written = _written_void(ids, void, classes)
    is_negative = [label for label in present if label < 0]
    if is_negative or (void is not None and void < 0):
        if is_negative:
            values = np.where(values < 0, np.int32(written), values)
            notes.add(
                f"{name}: {is_negative[0]} is void, such pixels keep it; it is written as {written}"
            )
            return ReadLabels(values, written)
        return ReadLabels(values)  # the caller says that 255 is none
    if void is not None:
        return ReadLabels(values, void)
    _look_at(name, values, ids, classes, notes)
    if _is_void(ids, VOID, classes) or _is_void(ids, WIDE_VOID, classes):
        found = VOID if _is_void(ids, VOID, classes) else WIDE_VOID
        notes.add(
            f"{name}: {found} is taken as void, such pixels keep it; say so by "
            f"ignore_label={found}, or ignore_label=-1 if it is a class"
        )
        return ReadLabels(values, found)
    _note_stretched(name, ids, notes)
    return ReadLabels(values)


def _as_two_classes(name: str, read: ReadLabels, classes: int | None, notes: Notes) -> ReadLabels:
    """Of a mask of 0 and 255 the latter is class 1 where there are two classes."""
    ids = np.unique(read.values).tolist() if classes == 2 and read.void is None else []
    if ids not in ([0, VOID], [VOID], [0, WIDE_VOID], [WIDE_VOID]):
        return read
    notes.add(f"{name} of 0 and {ids[-1]} are taken as a mask: {ids[-1]} is class 1")
    return ReadLabels((read.values > 0).astype(np.int32))


def _look_at(name: str, values: Labels, ids: list[int], classes: int | None, notes: Notes) -> None:
    """Say where labels from 0, of which nothing is known to be void, may be something else."""
    look_at_greys(name, values, ids, classes, notes)
    note_counts_from_1(name, ids, notes)


def _written_void(ids: list[int], void: int | None, classes: int | None) -> int:
    if void is not None and void >= 0:
        return void
    most = max([classes or 0, *(label + 1 for label in ids if label not in (VOID, WIDE_VOID))])
    is_class = VOID in ids and (void is not None or not _is_void(ids, VOID, classes))
    return WIDE_VOID if most > VOID or is_class else VOID


def _is_void(ids: list[int], label: int, classes: int | None) -> bool:
    """Whether a label can only be void, or hardly anything else."""
    if label not in ids:
        return False
    if classes is not None:
        return label >= classes and not (classes == 2 and ids in ([0, label], [label]))
    others = [each for each in ids if each != label]
    if others in ([], [0]) or label - 1 in others:
        return False  # a mask; or one of many classes
    return not _are_even_steps(ids) and max(others) < label


def _are_even_steps(ids: list[int]) -> bool:
    """Whether labels are grey levels that somebody spread from 0 to 255."""
    steps = np.diff(ids)
    return len(ids) >= 3 and ids[0] == 0 and int(np.ptp(steps)) <= 1


def _note_stretched(name: str, ids: list[int], notes: Notes) -> None:
    """Say where labels look like those that Pillow has multiplied."""
    if len(ids) < 3:
        return
    for factor, bits in _STRETCHES.items():
        if all(label % factor == 0 for label in ids):
            notes.add(
                f"{name}: all are multiples of {factor}, as Pillow makes of a PNG of {bits} bits; "
                f"if they come from one, give its path, or labels // {factor}"
            )
            return
