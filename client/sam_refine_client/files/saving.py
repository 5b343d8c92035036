"""A result as files."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from enum import Enum
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sam_refine.contract import OUTPUTS, REGIONS, InvalidRequestError, choice
from sam_refine_client.arrays import Labels, UInt8
from sam_refine_client.decoding import decoding
from sam_refine_client.files.whole_files import write_whole

if TYPE_CHECKING:
    from PIL import Image

    from sam_refine_client.reading.images import ImageLike
    from sam_refine_client.result import RefineResult

Write: TypeAlias = Callable[[BinaryIO], object]
"""Writes a file's content."""


class SaveFormat(str, Enum):
    """A file that a result can be saved as."""

    LABELS = "labels"
    """labels.png: grey, 8 bits, or 16 if a label is above 255; pixel values are labels."""
    PALETTE = "palette"
    """palette.png: the same in colours, for labels up to 255; pixel values are labels here too."""
    REGIONS = "regions"
    """regions.json: a list of all that each `Region` has, and `class_name` if names are given."""
    NPZ = "npz"
    """result.npz: everything in the result, as arrays."""
    BEFORE_AFTER = "before_after"
    """before_after.png: the picture that `RefineResult.overlay` draws."""
    COCO_RLE = "coco_rle"
    """coco_rle.json: the mask of each class. Needs the extra `coco`."""
    COCO_POLYGONS = "coco_polygons"
    """coco_polygons.json: the outlines of each 4-connected area. Needs the extra `coco`."""


FILE_NAMES: Final = {
    SaveFormat.LABELS: "labels.png",
    SaveFormat.PALETTE: "palette.png",
    SaveFormat.REGIONS: "regions.json",
    SaveFormat.NPZ: "result.npz",
    SaveFormat.BEFORE_AFTER: "before_after.png",
    SaveFormat.COCO_RLE: "coco_rle.json",
    SaveFormat.COCO_POLYGONS: "coco_polygons.json",
}


def save(
    result: RefineResult,
    directory: str | PathLike[str],
    *,
    formats: Collection[SaveFormat | str] | None,
    image: ImageLike | None,
    image_name: str | PathLike[str] | None,
    class_names: Sequence[str] | None,
    palette: UInt8 | None,
    ignore_label: int | None,
    stem: str | None,
) -> tuple[Path, ...]:
    """`RefineResult.save`."""
    directory = Path(directory)
    if class_names is not None:
        _check_class_names(class_names, result, ignore_label)
    if image_name is None:
        image_name = Path(image).name if isinstance(image, str | PathLike) else "image"
    files = _Files(result, image, fspath(image_name), class_names, palette, ignore_label)
    chosen = files.defaults() if formats is None else _chosen(formats)
    prepared = {file_of(directory, each, stem): files.prepared(each) for each in chosen}
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(
            errno.ENOTDIR, "directory must be a directory, got a file", str(directory)
        )
    for path in prepared:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(prepared)
    return tuple(prepared)


def file_of(directory: Path, format_: SaveFormat, stem: str | None = None) -> Path:
    """Where a format is written: under its own name, or under names that begin with `stem`."""
    name = FILE_NAMES[format_]
    if stem is not None:
        name = f"{stem}.png" if format_ is SaveFormat.LABELS else f"{stem}.{name}"
    return directory / name


def save_merged_coco(parts: Sequence[Path], path: Path) -> None:
    """Write one COCO file of the COCO files of single images, in their order.

    Raises `InvalidRequestError` where they do not go together or one is no COCO file, `OSError`.
    """
    from sam_refine_client.files.coco import merged

    contents = []
    for part in parts:
        with decoding(f"{part} must be JSON", "; remove it"):
            contents.append(json.loads(part.read_text(encoding="ascii")))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole({path: _json(merged(contents))})


def _chosen(formats: Collection[SaveFormat | str]) -> list[SaveFormat]:
    """Each of them once, in the caller's order."""
    if isinstance(formats, str):
        raise ValueError(f"formats must be several names, got {formats!r} alone")
    return list(dict.fromkeys(choice("formats", each, SaveFormat) for each in formats))


def check_names(class_names: Any) -> None:
    """Raise `InvalidRequestError` unless they are the names of classes 0, 1, ..., in a row."""
    hint = ""
    if isinstance(class_names, Mapping):
        hint = "; of ids and names give [id2label[i] for i in range(len(id2label))]"
    elif isinstance(class_names, str | PathLike):
        hint = "; of a file give pathlib.Path(...).read_text().splitlines()"
    elif not isinstance(class_names, Set) and all(isinstance(name, str) for name in class_names):
        return
    raise InvalidRequestError(f"class_names must be several texts, got {class_names!r:.80}{hint}")


def _check_class_names(
    class_names: Sequence[str], result: RefineResult, ignore_label: int | None
) -> None:
    """Raise `ValueError` if a class of the maps or the regions has no name."""
    check_names(class_names)
    classes: set[int] = set()
    for labels in (result.labels, result.coarse_labels):
        if labels is not None and not 0 <= labels.min() <= labels.max() < len(class_names):
            classes.update(np.unique(labels).tolist())
    classes -= {ignore_label}
    classes.update(region.class_id for region in result.regions or ())
    nameless = sorted(classes - set(range(len(class_names))))
    if nameless:
        raise ValueError(
            f"class_names must have a name for each class, got {len(class_names)} names and the "
            f"label {nameless[0]}; if that is not a class, give it as ignore_label"
        )


@dataclass(frozen=True)
class _Files:
    """What the files of a result are made of."""

    result: RefineResult
    image: ImageLike | None
    image_name: str
    class_names: Sequence[str] | None
    palette: UInt8 | None
    ignore_label: int | None

    def defaults(self) -> list[SaveFormat]:
        """What is saved by default: all that the result has the outputs for, except COCO.

        Labels come last: once they are there, everything is.
        """
        from sam_refine_client.files.pictures import fits_palette

        labels, coarse_labels = self.result.labels, self.result.coarse_labels
        formats = []
        if labels is not None and fits_palette(labels):
            formats.append(SaveFormat.PALETTE)
        if self.result.regions is not None:
            formats.append(SaveFormat.REGIONS)
        formats.append(SaveFormat.NPZ)
        if self.image is not None and labels is not None and coarse_labels is not None:
            formats.append(SaveFormat.BEFORE_AFTER)
        if labels is not None:
            formats.append(SaveFormat.LABELS)
        return formats

    def prepared(self, format_: SaveFormat) -> Write:
        """A function that writes the file. Whatever can be wrong with its content is found here."""
        prepare = {
            SaveFormat.LABELS: self._labels,
            SaveFormat.PALETTE: self._palette,
            SaveFormat.REGIONS: self._regions,
            SaveFormat.NPZ: self._npz,
            SaveFormat.BEFORE_AFTER: self._before_after,
            SaveFormat.COCO_RLE: self._coco_rle,
            SaveFormat.COCO_POLYGONS: self._coco_polygons,
        }
        return prepare[format_]()

    def _labels(self) -> Write:
        from sam_refine_client.files.pictures import grey_picture

        return _png(grey_picture(self._refined(SaveFormat.LABELS)))

    def _palette(self) -> Write:
        from sam_refine_client.files.pictures import palette_picture

        labels = self._refined(SaveFormat.PALETTE)
        return _png(palette_picture(labels, self.palette, self.ignore_label))

    def _regions(self) -> Write:
        if self.result.regions is None:
            raise ValueError(f'{SaveFormat.REGIONS.value} needs the output "regions"')
        rows = []
        for region in self.result.regions:
            row = asdict(region)
            if self.class_names is not None:
                row["class_name"] = self.class_names[region.class_id]
            rows.append(row)
        return _json(rows, indent=1)

    def _npz(self) -> Write:
        arrays = _arrays(self.result)
        # Maps get ten times smaller; scores hardly do, and there are many of them.
        write = np.savez_compressed if self.result.logits is None else np.savez
        return lambda file: write(file, **arrays)

    def _before_after(self) -> Write:
        if self.image is None:
            raise ValueError(f"{SaveFormat.BEFORE_AFTER.value} needs the image")
        picture = self.result.overlay(
            self.image,
            class_names=self.class_names,
            palette=self.palette,
            ignore_label=self.ignore_label,
        )
        return _png(picture)

    def _coco_rle(self) -> Write:
        from sam_refine_client.files.coco import rle_annotations

        labels = self._refined(SaveFormat.COCO_RLE)
        return self._coco(labels, rle_annotations(labels, self.ignore_label))

    def _coco_polygons(self) -> Write:
        from sam_refine_client.files.coco import polygon_annotations

        labels = self._refined(SaveFormat.COCO_POLYGONS)
        return self._coco(labels, polygon_annotations(labels, self.ignore_label))

    def _coco(self, labels: Labels, annotations: list[dict[str, Any]]) -> Write:
        from sam_refine_client.files.coco import dataset

        if self.class_names is None:
            present = sorted({annotation["category_id"] for annotation in annotations})
            categories = {class_id: str(class_id) for class_id in present}
        else:
            categories = dict(enumerate(self.class_names))
            if self.ignore_label is not None:
                categories.pop(self.ignore_label, None)
        height, width = labels.shape
        return _json(dataset(annotations, (height, width), self.image_name, categories))

    def _refined(self, format_: SaveFormat) -> Labels:
        if self.result.labels is None:
            raise ValueError(f'{format_.value} needs the output "labels"')
        return self.result.labels


def _arrays(result: RefineResult) -> dict[str, npt.NDArray[Any]]:
    """What result.npz has: nothing for an output that was not asked for."""
    arrays = {
        "stages": np.array(list(result.timings), np.str_),
        "stage_times_ms": np.array(list(result.timings.values()), np.float32),
        "request_id": np.array(result.request_id),
    }
    for row in OUTPUTS:
        if row.is_map and (values := getattr(result, row.field)) is not None:
            arrays[row.saved_as] = values
        if row.asked_by == REGIONS and result.regions is not None:
            column = [getattr(region, row.field) for region in result.regions]
            shape = len(column), *row.tensor.dims[1:]
            arrays[row.saved_as] = np.array(column, row.tensor.dtype).reshape(shape)
    return arrays


def _png(picture: Image.Image) -> Write:
    # zlib's higher levels take ten times as long, and hardly make photos smaller.
    level = 3 if picture.mode == "RGB" else 9
    return lambda file: picture.save(file, format="PNG", compress_level=level)


def _json(content: Any, indent: int | None = None) -> Write:
    # ASCII, because pycocotools reads files in the system's encoding, whatever that is.
    text = json.dumps(content, indent=indent) + "\n"
    return lambda file: file.write(text.encode("ascii"))
