"""What passes for a file, or a label map, and is something else: how it is told, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from sam_refine.contract import InvalidRequestError
from sam_refine_client.arrays import Labels
from sam_refine_client.reading.arrays import AnyArray
from sam_refine_client.reading.notes import Notes

_FEWEST_GREYS: Final = 5
"""Levels that a mask with soft edges has at least."""
_WHITES: Final = (255, 65535)
"""The highest level of masks of 8 and 16 bits."""
_HALF: Final = 0.5
"""The share of greys in ramps, which label maps stay far below: theirs lie in areas."""
_ALL: Final = 0.9
"""The share of a label's pixels in ramps, where it has no area."""
_ADE20K: Final = r"ADE_(train|val)_\d+\.png$"
_INSTANCES: Final = r"_instanceIds\.png$"
_COLOURS_OF: Final = {
    r"ADE_\w+_seg\.png$": (
        "is ADE20K's full annotation, whose colours hold class and instance; give labels=rgb[..., "
        "0] // 10 * 256 + rgb[..., 1] of rgb = np.asarray(PIL.Image.open(...)).astype(int)"
    ),
    r"(_gtFine_panoptic|/panoptic_[^/]*/[^/]*|_panoptic)\.png$": (
        "has panoptic ids for colours, not classes; convert it: panopticapi's "
        "panoptic2semantic_segmentation writes one label PNG for each image"
    ),
}
"""Files that data sets name, whose colours stand for something else than classes."""


FILE_HEAD: Final = 512
"""Bytes at the beginning of a file that tell what it is."""
_AT_START: Final = {
    b"version https://git-lfs": "a Git LFS pointer; run git lfs pull where it was cloned",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG",
    b"\xff\xd8\xff": "a JPEG",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"\x93NUMPY": "a .npy",
    b"\x89HDF": "HDF5; save its array alone: np.save('scores.npy', file[...][()])",
    b"MATLAB": "a .mat; save its array alone: np.save('scores.npy', scipy.io.loadmat(...)['...'])",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "what gzip has packed; unpack it",
}
PICTURE_KINDS: Final = ("a PNG", "a JPEG", "a GIF", "a BMP", "a TIFF")
"""Those of what `kind_of_file` tells that Pillow reads."""
_BRAND: Final = slice(4, 12)
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "a raw photo",
}
"""By the bytes that say which of the formats a file is that begin with "ftyp"."""
_WEB_PAGE: Final = (b"<!doctype html", b"<html")
_TEXT: Final = frozenset(b"\t\n\r" + bytes(range(32, 127)))


def kind_of_file(head: bytes) -> str | None:
    """What a file is by its first `FILE_HEAD` bytes, and what to do if that is known; else None."""
    if not head:
        return "an empty file"
    for start, kind in _AT_START.items():
        if head.startswith(start):
            return kind
    brand = head[_BRAND]
    if brand.startswith(b"ftyp"):
        kind = _BRANDS.get(brand[4:], "a video")
        advice = "convert it to JPEG or PNG, such as by magick mogrify -format jpg"
        return kind if kind == "a video" else f"{kind}; {advice}"
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a pickle, which is not run; save its array alone: np.save('scores.npy', array)"
    if head[128:132] == b"DICM":
        return "DICOM; give its pixels as an array"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.lower().startswith(_WEB_PAGE):
        return "a web page; take the link to the file itself"
    if not _TEXT.issuperset(head):
        return None
    return "XML" if text.startswith(b"<") else "JSON" if text[:1] in (b"{", b"[") else "text"


_URL: Final = re.compile(r"(https?|s3|gs|file|hf|ftp)://", re.IGNORECASE)
_LONGEST_PATH: Final = 4096


def check_path(name: str, path: str, advice: str = "") -> None:
    """Raise `InvalidRequestError` for a text that is no path, such as a URL.

    `advice` is what else may be done with a URL than to download it.
    """
    if _URL.match(path):
        raise InvalidRequestError(
            f"{name} must be a path, got the URL {path[:60]!r}, which is not fetched; download it"
            f"{f', {advice}' if advice else ''}"
        )
    if "\0" in path or path.startswith("data:") or len(path) > _LONGEST_PATH:
        raise InvalidRequestError(
            f"{name} must be a path, got text that is none, {path[:20]!r}...; of base64 give "
            "base64.b64decode(text)"
        )


_JSON_KINDS: Final = (
    (
        {"shapes", "imagePath"},
        "LabelMe's JSON, of polygons; export it as masks: labelme_export_json",
    ),
    (
        {"objects", "imgHeight"},
        "Cityscapes' polygons; give its PNG of labelTrainIds or labelIds",
    ),
    ({"objects", "size"}, "Supervisely's JSON; export it as masks"),
    ({"_via_img_metadata"}, "VIA's project; export it as COCO"),
    ({"features"}, "GeoJSON; draw it as a PNG of labels first"),
    ({"data", "annotations"}, "Label Studio's JSON; export it as COCO or as PNG masks"),
)
"""By keys of an object, or of the first in a list."""


OTHER_JSON: Final = "other JSON"


def kind_of_json(content: object) -> str:
    """What JSON is that has no annotations of COCO, and what to do if that is known."""
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, Mapping):
        for keys, kind in _JSON_KINDS:
            if keys <= first.keys():
                return kind
        if any(isinstance(each, Mapping) and "regions" in each for each in first.values()):
            return "VIA's JSON; export it as COCO"
    return OTHER_JSON


def check_not_instances(name: str) -> None:
    """Raise `InvalidRequestError` for a file of Cityscapes' that has instances."""
    if re.search(_INSTANCES, name):
        raise InvalidRequestError(
            f"{name} has the numbers of instances, class * 1000 + number, not classes; give its "
            "file of labelTrainIds or labelIds"
        )


TEXT_SUFFIXES: Final = (".txt", ".xml", ".csv")


def check_not_polygons(name: str) -> None:
    """Raise `InvalidRequestError` for a file of text, in which tools keep polygons and boxes."""
    if name.lower().endswith(TEXT_SUFFIXES):
        raise InvalidRequestError(
            f"{name} must be a label map, got text, such as polygons of YOLO or CVAT; export masks "
            "as PNG, or COCO's JSON"
        )


def check_colours_of(name: str) -> None:
    """Raise `InvalidRequestError` for a file whose name says what else its colours are."""
    for pattern, what in _COLOURS_OF.items():
        if re.search(pattern, name):
            raise InvalidRequestError(f"{name} {what}")


LARGEST_ID: Final = 65535
"""Beyond it labels cannot be written to a PNG."""
_INSTANCES_FROM: Final = 10_000
_OF_INSTANCE: Final = 1000


def look_at_instances(name: str, ids: list[int], notes: Notes) -> None:
    """Say where labels of these ids are as Cityscapes' instances are, class * 1000 + number.

    Raises `InvalidRequestError` for ids that no class has, such as panoptic ones.
    """
    largest = max([each for each in ids if each != LARGEST_ID], default=0)
    if largest > LARGEST_ID:
        raise InvalidRequestError(
            f"{name} must be class ids of at most {LARGEST_ID}, got {largest}; if they are COCO's "
            "panoptic ids, convert them: panopticapi's panoptic2semantic_segmentation"
        )
    if largest >= _INSTANCES_FROM and any(0 < each < _OF_INSTANCE for each in ids):
        notes.add(
            f"{name} go up to {largest}: if these are instances, class * {_OF_INSTANCE} + number, "
            f"give np.where(labels < {_OF_INSTANCE}, labels, labels // {_OF_INSTANCE})"
        )


def note_counts_from_1(name: str, ids: list[int], notes: Notes) -> None:
    """Say that the greys of an ADE20K file count from 1."""
    if 0 in ids and re.search(_ADE20K, name):
        notes.add(
            f"{name} is taken as it is: in ADE20K 0 is no class, and classes count from 1; "
            "ignore_label=0 says so, beside scores of 150 classes give labels.astype(int) - 1"
        )


def masks_axis(array: AnyArray) -> tuple[int, bool] | None:
    """Which axis of masks (C, H, W) or (H, W, C) is the classes', and whether they fill the map.

    They are of 0 and one value above it: 1 or 255. None for anything else. Masks fill the map where
    each pixel is in one of them, as in a one-hot array.
    """
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        return None
    high = array.max()
    if not (high in (1, 255) and ((array == 0) | (array == high)).all()):
        return None
    for axis in (0, 2):
        if array.shape[axis] > 1 and (np.count_nonzero(array, axis=axis) == 1).all():
            return axis, True
    return (0 if array.shape[0] <= array.shape[2] else 2), False


def masks_as_labels(name: str, axis: int, is_whole: bool) -> str:
    """The line that makes labels of such masks."""
    if is_whole:
        return f"{name}.argmax({axis})"
    counted = "[:, None, None]" if axis == 0 else ""
    numbers = f"np.arange(1, {name}.shape[{axis}] + 1){counted}"
    return f"(({name} > 0) * {numbers}).max({axis}), where 0 is the rest"


def look_at_greys(
    name: str, values: Labels, ids: list[int], classes: int | None, notes: Notes
) -> None:
    """Say where labels (H, W) of these ids are greys: a trimap, or were resized smoothly.

    They are greys where they are not all of the `classes`, if these are known. Raises
    `InvalidRequestError` for a mask with soft edges.
    """
    if not ids:
        return
    are_classes = classes is not None and ids[-1] < classes
    if not are_classes and len(ids) == 3 and ids[0] == 0 and ids[1] in (127, 128) and ids[2] == 255:
        notes.add(
            f"{name} of 0, {ids[1]} and 255 are three classes; if they are a trimap, give "
            f"np.where(labels == {ids[1]}, -1, labels > 127), where -1 is void"
        )
    if len(ids) < _FEWEST_GREYS or ids[-1] > _WHITES[-1]:
        return
    in_ramps = _in_ramps(values)
    inner = (values > ids[0]) & (values < ids[-1])
    is_ramp = np.count_nonzero(in_ramps & inner) > _HALF * np.count_nonzero(inner)
    white = next(each for each in _WHITES if ids[-1] <= each)
    if is_ramp and ids[-1] > white // 2 and not are_classes:
        raise InvalidRequestError(
            f"{name} are a mask with soft edges, or shares times {white}, of {len(ids)} levels "
            f"from {ids[0]} to {ids[-1]}: give labels > {white // 2}, or as scores "
            f"logits=labels / {white}"
        )
    in_all = np.bincount(values.ravel())[ids]
    ramps = np.bincount(values[in_ramps], minlength=ids[-1] + 1)[ids]
    only_between = int((ramps >= _ALL * in_all).sum())
    if 2 * only_between >= len(ids):
        notes.add(
            f"{name}: {only_between} of {len(ids)} are in no area, as resizing makes that is not "
            "by nearest neighbour; give the map as it was before"
        )


def _in_ramps(values: Labels) -> AnyArray:
    """(H, W): which pixels lie in no area, but between a lower and a higher one, or by themselves.

    The former are looked for around each pixel; the latter have fewer than two equal ones beside,
    above and below them. What is beyond the border goes on as it is there.
    """
    padded = np.pad(values.astype(np.uint16), 1, mode="edge")
    low, high = (
        _of_three(_of_three(padded, take, 0), take, 1) for take in (np.minimum, np.maximum)
    )
    across, down = padded[1:-1], padded[:, 1:-1]
    equal = (across[:, 1:] == across[:, :-1]).astype(np.uint8)
    beside = equal[:, 1:] + equal[:, :-1]
    equal = (down[1:] == down[:-1]).astype(np.uint8)
    in_ramps: AnyArray = (low < values) & (values < high)
    in_ramps |= beside + equal[1:] + equal[:-1] < 2
    return in_ramps


def _of_three(array: AnyArray, take: np.ufunc, axis: int) -> AnyArray:
    """The lowest or the highest of each three neighbours along an axis, which gets shorter by 2."""
    rows = array.swapaxes(0, axis)
    found: AnyArray = take(take(rows[:-2], rows[1:-1]), rows[2:]).swapaxes(0, axis)
    return found
