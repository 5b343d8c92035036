"""COCO's annotations of one image as a label map. Needs the extra `coco`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError
from sam_refine_client.arrays import Labels
from sam_refine_client.decoding import decoding, json_of
from sam_refine_client.reading.arrays import is_array
from sam_refine_client.reading.mistaken import LARGEST_ID, OTHER_JSON, kind_of_json
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.pixels import check_pixels

_SEGMENTATION: Final = "segmentation"
_NOWHERE: Final = -2
_FARTHEST: Final = 16
"""How many times an image's longer side a polygon may be away: each pixel of its outline costs."""
_MOST_LETTERS: Final = 8
"""Of a run, far more than any image needs."""
_FEWEST_NUMBERS: Final = 6
"""Of three points."""
_RULE: Final = "{} must be a COCO file with images and annotations"
_MASK_RULE: Final = (
    "{} must have COCO's polygons or run-length masks, got something else in number {}"
)


def looks_like_coco(labels: Any) -> bool:
    """Whether it is a path of a .json, the content of one, or a list of annotations."""
    if isinstance(labels, str | PathLike):
        return Path(fspath(labels)).suffix.lower() == ".json"
    if isinstance(labels, Mapping):
        return "annotations" in labels or _SEGMENTATION in labels
    return isinstance(labels, list) and bool(labels) and all(isinstance(a, Mapping) for a in labels)


def labels_of_coco(
    source: Any, size_hw: tuple[int, int] | None, image_name: str | None, notes: Notes
) -> Labels:
    """(H, W): the category ids of an image's annotations, smaller ones over larger ones.

    What no annotation covers is class 0, or -1, void, if there is a category 0. `source` is a file,
    its content, or a list of annotations; of the images of a file it is the one whose `file_name`
    is `image_name`, or the only one. Raises `InvalidRequestError`, and `OSError`.
    """
    name, content = "labels", source
    if isinstance(source, str | PathLike):
        name = str(source)
        content = _loaded(Path(fspath(source)))
    with decoding(_RULE.format(name)):
        return _labels_of(name, content, size_hw, image_name, notes)


def _labels_of(
    name: str,
    content: Any,
    size_hw: tuple[int, int] | None,
    image_name: str | None,
    notes: Notes,
) -> Labels:
    if isinstance(content, Mapping) and _SEGMENTATION in content:
        if is_array(content[_SEGMENTATION]):
            raise InvalidRequestError(
                f"{name} has the numbers of instances, not of classes; give a map of classes: "
                "processor.post_process_semantic_segmentation(outputs, target_sizes=[(H, W)])[0]"
            )
        content = [content]
    if isinstance(content, list):
        _check_annotations(name, content, content)
        annotations, size = content, size_hw
        image_ids = {str(each.get("image_id")) for each in annotations}
        if len(image_ids) > 1:
            raise InvalidRequestError(
                f"{name} must be annotations of one image, got those of {len(image_ids)}; give "
                "those of one, or a COCO file with its images"
            )
        categories = [each.get("category_id") for each in annotations]
    else:
        annotations, size, categories = _of_dataset(name, content, size_hw, image_name, notes)
    if size is None:
        raise InvalidRequestError(f"{name} must have the image's height and width, got none")
    return _drawn(name, annotations, size, 0 in categories, notes)


def dataset_of(path: Path, image_name: str) -> Any:
    """What a COCO file says of one image, as a dataset of its own; raises as `labels_of_coco`."""
    content = _loaded(path)
    if isinstance(content, list):  # annotations, which say nothing of images' names
        return content
    with decoding(_RULE.format(path)):
        image, annotations = _image_of(str(path), content, image_name, by_name=True)
    return {**content, "images": [image], "annotations": annotations}


def _loaded(path: Path) -> Any:
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)  # one file is that of all images
def _parsed(path: Path, changed_ns: int) -> Any:
    return json_of(str(path), path.read_bytes())


def _of_dataset(
    name: str,
    content: Any,
    size_hw: tuple[int, int] | None,
    image_name: str | None,
    notes: Notes,
) -> tuple[list[Any], tuple[int, int] | None, list[Any]]:
    """The annotations of one image of a COCO file, its size, and all category ids."""
    image, own = _image_of(name, content, image_name)
    file_name = Path(str(image.get("file_name") or image_name or ""))
    if image_name is not None and file_name.stem != Path(image_name).stem:
        notes.add(f"{name} is of {file_name.name}, and taken for {image_name}")
    if not own and content["annotations"]:
        notes.add(f"{name}: none of its {len(content['annotations'])} annotations is of this image")
    size, height, width = size_hw, image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
        size = height, width
    if size is not None and size != size_hw:
        check_pixels(name, size[::-1])
    categories = [each.get("id") for each in content.get("categories") or []]
    return own, size, categories or [each.get("category_id") for each in content["annotations"]]


def _image_of(
    name: str, content: Any, image_name: str | None, *, by_name: bool = False
) -> tuple[dict[str, Any], list[Any]]:
    """One image of a COCO file, and its annotations: the only one, whatever its name, unless
    it is to be found `by_name`.
    """
    found = content.get("annotations") if isinstance(content, Mapping) else None
    _check_annotations(name, found, content)
    for key in ("images", "categories"):
        _check_annotations(name, content.get(key) or [], content)
    if any("segments_info" in each for each in content["annotations"]):
        raise InvalidRequestError(
            f"{name} is COCO's panoptic form, whose labels are in PNGs beside it; convert it: "
            "panopticapi's panoptic2semantic_segmentation writes one label PNG for each image"
        )
    images = content.get("images") or []
    found = images
    if image_name is not None and (by_name or len(images) > 1):
        found = [
            each for each in images if Path(str(each.get("file_name"))).name == image_name
        ] or [
            each
            for each in images
            if Path(str(each.get("file_name"))).stem == Path(image_name).stem
        ]
    if len(found) != 1:
        wanted = "" if image_name is None else f" of the name {image_name}"
        raise InvalidRequestError(
            f"{name} must have one image{wanted}, got {len(found)} of {len(images)}; give the "
            "annotations of one: [a for a in coco['annotations'] if a['image_id'] == ...]"
        )
    (image,) = found
    number = str(image.get("id"))
    own = [each for each in content["annotations"] if str(each.get("image_id")) == number]
    return image, own


def _check_annotations(name: str, found: Any, content: Any) -> None:
    """Raise `InvalidRequestError` for what is no list of objects as COCO has them."""
    is_coco = isinstance(found, list) and all(isinstance(each, Mapping) for each in found)
    kind = kind_of_json(content)
    if not is_coco or kind != OTHER_JSON:
        raise InvalidRequestError(f"{_RULE.format(name)}, got {kind}")
    if any(is_array(each.get(_SEGMENTATION)) for each in found):
        raise InvalidRequestError(
            f"{name} has masks of things without classes, as SAM's generator makes them; give a "
            "mask for each class by its id: {1: mask, 2: mask}"
        )


def _drawn(
    name: str, annotations: list[Any], size: tuple[int, int], has_zero: bool, notes: Notes
) -> Labels:
    mask = _pycocotools()
    masks = []
    for index, each in enumerate(annotations):
        category, shape = each.get("category_id"), each.get(_SEGMENTATION)
        if each.get("iscrowd"):
            notes.add(f"{name}: crowds are taken like single things")
        is_id = isinstance(category, int | np.integer) and 0 <= category <= LARGEST_ID
        if not is_id or not shape:
            raise InvalidRequestError(
                f"{name} must have annotations with category_id and segmentation, got "
                f"{repr(category) if shape else 'no mask'} in number {index}"
            )
        with decoding(_MASK_RULE.format(name, index)):
            encoded = _encoded(name, index, shape, size, mask)
            masks.append((int(mask.area(encoded)), index, category, encoded))
    empty = sum(area == 0 for area, *_ in masks)
    if empty and empty == len(masks):
        raise InvalidRequestError(
            f"{name} must have annotations that cover pixels, got {empty} that cover none; are "
            "their coordinates shares of width and height? multiply them"
        )
    if empty:
        notes.add(f"{name}: {empty} of {len(masks)} annotations cover no pixel")
    labels = np.full(size, _NOWHERE, np.int32)
    for _, index, category, encoded in sorted(masks, key=lambda each: -each[0]):
        with decoding(_MASK_RULE.format(name, index)):
            labels[mask.decode(encoded).astype(np.bool_)] = category
    is_left = labels == _NOWHERE
    if is_left.any():
        labels[is_left] = -1 if has_zero else 0
        if not has_zero:
            notes.add(f"{name}: pixels without an annotation are class 0")
    return labels


def _encoded(name: str, index: int, shape: Any, size: tuple[int, int], mask: Any) -> Any:
    """A mask as pycocotools' run-length encoding, of polygons or of runs packed or not.

    Its C writes beyond its memory for what it does not expect: nothing such may get there.
    """
    if isinstance(shape, list):
        polygons = _polygons(shape, size)
        nothing: Any = {"size": list(size), "counts": [math.prod(size)]}
        return mask.merge(mask.frPyObjects(polygons or [nothing], *size))
    counts, own = shape["counts"], tuple(shape["size"])
    if own != size:
        raise InvalidRequestError(
            f"{name} must have masks of the image's size {size}, got {own} in number {index}"
        )
    packed = counts.encode("ascii") if isinstance(counts, str) else counts
    is_packed = isinstance(packed, bytes)
    runs = _unpacked(packed) if is_packed else np.asarray(packed)
    if runs.dtype.kind not in "iu" or runs.min() < 0 or runs.sum() != math.prod(size):
        raise ValueError(f"its runs must be numbers of pixels, {math.prod(size)} in all")
    encoded = {"size": list(size), "counts": packed if is_packed else runs.tolist()}
    return encoded if is_packed else mask.frPyObjects(encoded, *size)


def _unpacked(packed: bytes) -> npt.NDArray[np.int64]:
    """The runs that COCO has packed: five bits to a letter, the lowest first.

    A letter is 48 and more; its sixth bit says that the run goes on, the highest bit of a run is
    its sign. From the fourth on each run is what it is more than the one before the last.
    """
    letters = np.frombuffer(packed, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(letters & 32 == 0)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if not len(ends) or ends[-1] + 1 < len(letters) or lengths.max() > _MOST_LETTERS:
        raise ValueError("its packed runs must end")
    shifts = 5 * (np.arange(len(letters)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((letters & 31) << shifts, starts)
    runs -= np.where(letters[ends] & 16, 1, 0) << (5 * lengths)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def _polygons(shape: list[Any], size: tuple[int, int]) -> list[list[float]]:
    """Polygons that have an inside. Raises `ValueError` for what is none of an image of that size.

    Four numbers would be a box for pycocotools.
    """
    polygons = []
    for each in shape:
        numbers = np.asarray(each, np.float64)
        is_near = bool((np.abs(numbers) <= _FARTHEST * max(size)).all())
        if numbers.ndim != 1 or len(numbers) % 2 or not is_near:
            raise ValueError("its polygons must be [x, y, x, y, ...] of pixels of the image")
        if len(numbers) >= _FEWEST_NUMBERS:
            polygons.append(numbers.tolist())
    return polygons


def _pycocotools() -> Any:
    try:
        return import_module("pycocotools.mask")
    except ModuleNotFoundError as error:
        raise InvalidRequestError(
            'COCO annotations need pycocotools: pip install "sam-refine[coco]"'
        ) from error
