"""COCO's annotations of one image as a label map. Needs the extra `coco`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

import numpy as np

from sam_refine.contract import InvalidRequestError
from sam_refine_client.arrays import Labels
from sam_refine_client.reading.arrays import is_array
from sam_refine_client.reading.mistaken import OTHER_JSON, kind_of_json
from sam_refine_client.reading.notes import Notes

_SEGMENTATION: Final = "segmentation"
_NOWHERE: Final = -2


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
        image_ids = {each.get("image_id") for each in annotations}
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
    image, annotations = _image_of(str(path), content, image_name, by_name=True)
    return {**content, "images": [image], "annotations": annotations}


def _loaded(path: Path) -> Any:
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)  # one file is that of all images
def _parsed(path: Path, changed_ns: int) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequestError(f"{path} must be JSON: {error}") from error


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
    size = size_hw
    if isinstance(image.get("height"), int) and isinstance(image.get("width"), int):
        size = image["height"], image["width"]
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
    _check_annotations(name, content.get("images") or [], content)
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
    own = [each for each in content["annotations"] if each.get("image_id") == image.get("id")]
    return image, own


def _check_annotations(name: str, found: Any, content: Any) -> None:
    """Raise `InvalidRequestError` for what is no list of objects as COCO has them."""
    is_coco = isinstance(found, list) and all(isinstance(each, Mapping) for each in found)
    kind = kind_of_json(content)
    if not is_coco or kind != OTHER_JSON:
        raise InvalidRequestError(
            f"{name} must be a COCO file with images and annotations, got {kind}"
        )
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
        if not isinstance(category, int) or category < 0 or not shape:
            raise InvalidRequestError(
                f"{name} must have annotations with category_id and segmentation, got "
                f"{repr(category) if shape else 'no mask'} in number {index}"
            )
        encoded = _encoded(name, index, shape, size, mask)
        masks.append((int(mask.area(encoded)), category, encoded))
    empty = sum(area == 0 for area, _, _ in masks)
    if empty and empty == len(masks):
        raise InvalidRequestError(
            f"{name} must have annotations that cover pixels, got {empty} that cover none; are "
            "their coordinates shares of width and height? multiply them"
        )
    if empty:
        notes.add(f"{name}: {empty} of {len(masks)} annotations cover no pixel")
    labels = np.full(size, _NOWHERE, np.int32)
    for _, category, encoded in sorted(masks, key=lambda each: -each[0]):
        labels[mask.decode(encoded).astype(np.bool_)] = category
    is_left = labels == _NOWHERE
    if is_left.any():
        labels[is_left] = -1 if has_zero else 0
        if not has_zero:
            notes.add(f"{name}: pixels without an annotation are class 0")
    return labels


def _encoded(name: str, index: int, shape: Any, size: tuple[int, int], mask: Any) -> Any:
    """A mask as pycocotools' run-length encoding, of polygons or of runs packed or not."""
    try:
        if isinstance(shape, list):
            encoded = mask.merge(mask.frPyObjects(shape, *size))
        elif isinstance(shape["counts"], list):
            encoded = mask.frPyObjects(shape, *shape["size"])
        else:
            counts = shape["counts"]
            packed = counts.encode("ascii") if isinstance(counts, str) else counts
            encoded = {"size": list(shape["size"]), "counts": packed}
        found = tuple(encoded["size"])
    except Exception as error:  # of many kinds, some of C
        raise InvalidRequestError(
            f"{name} must have COCO's polygons or run-length masks, got something else in number "
            f"{index}: {' '.join(str(error).split())[:100]}"
        ) from error
    if found != size:
        raise InvalidRequestError(
            f"{name} must have masks of the image's size {size}, got {found} in number {index}"
        )
    return encoded


def _pycocotools() -> Any:
    try:
        return import_module("pycocotools.mask")
    except ModuleNotFoundError as error:
        raise InvalidRequestError(
            'COCO annotations need pycocotools: pip install "sam-refine[coco]"'
        ) from error
