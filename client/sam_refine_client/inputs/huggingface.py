"""Hugging Face's imagefolder: a metadata.csv or metadata.jsonl lists the images of its folder.

train/metadata.csv      file_name,label_file_name
                        street.jpg,labels/street.png
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sam_refine.contract import InvalidRequestError
from sam_refine_client.decoding import decoding
from sam_refine_client.files.whole_files import write_whole

LISTS: Final = ("metadata.csv", "metadata.jsonl")
IMAGE_COLUMN: Final = "file_name"
MAP_COLUMNS: Final = (
    *("label_file_name", "mask_file_name", "annotation_file_name", "segmentation_file_name"),
    *("label", "mask", "annotation", "segmentation"),
)
"""Which have label maps, where they name PNGs; the first is written where there is none."""


@dataclass(frozen=True)
class ListedImage:
    """A row of a list, of files below the root."""

    image: Path
    label: str
    """Its label map below the root, without the ending."""


@dataclass(frozen=True)
class ImageList:
    """One metadata file."""

    path: Path
    rows: list[dict[str, Any]]

    @property
    def map_column(self) -> str | None:
        """The column that names label maps."""
        first = self.rows[0] if self.rows else {}
        named = {column for column, value in first.items() if str(value).lower().endswith(".png")}
        return next((each for each in MAP_COLUMNS if each in named), None)

    def images(self, root: Path) -> list[ListedImage]:
        """Its rows. Raises `InvalidRequestError` for one without a file, or with one elsewhere."""
        column = self.map_column
        folder = PurePosixPath(self.path.parent.relative_to(root).as_posix())
        found = []
        for row in self.rows:
            name = self._inside(row, IMAGE_COLUMN)
            label = _map_of(name) if column is None else self._inside(row, column)
            if label.suffix.lower() != ".png":
                raise InvalidRequestError(
                    f"{self.path} must have label maps in PNG, got {label} for {name}"
                )
            stem = (folder / label).with_suffix("").as_posix()
            found.append(ListedImage(self.path.parent / name, stem))
        if len({each.label for each in found}) < len(found):
            raise InvalidRequestError(
                f"{self.path} must have a label map of its own for each image"
            )
        return found

    def content(self, names: Collection[str]) -> bytes:
        """The file again, of some of its images, with a column of label maps."""
        rows = [row for row in self.rows if str(row[IMAGE_COLUMN]) in names]
        if self.map_column is None:
            rows = [{**row, MAP_COLUMNS[0]: str(_map_of(row[IMAGE_COLUMN]))} for row in rows]
        if self.path.suffix == ".jsonl":
            return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    def _inside(self, row: dict[str, Any], column: str) -> PurePosixPath:
        name = row.get(column)
        path = PurePosixPath(str(name))
        is_inside = path.name and not path.is_absolute() and ".." not in path.parts
        if not isinstance(name, str) or not is_inside or "\0" in name:
            raise InvalidRequestError(
                f"{self.path} must have files of its own folder as {column}, got {name!r:.80}"
            )
        return path


def _map_of(name: PurePosixPath | str) -> PurePosixPath:
    """Where the label map of an image goes that a list has none for."""
    return PurePosixPath("labels", name).with_suffix(".png")


def image_lists(root: Path) -> list[ImageList]:
    """The metadata files of a folder and those within it. Raises `InvalidRequestError`."""
    paths = sorted(path for name in LISTS for path in root.rglob(name))
    if not paths:
        raise InvalidRequestError(
            f"{root} must have a {' or '.join(LISTS)}, with a column {IMAGE_COLUMN}, got none"
        )
    return [_read(path) for path in paths]


def write_lists(root: Path, out: Path, images: Collection[Path]) -> None:
    """Write the lists of `root` to `out`, of some images and their maps. Raises `OSError`."""
    for each in image_lists(root):
        names = [str(row[IMAGE_COLUMN]) for row in each.rows]
        done = {name for name in names if each.path.parent / name in images}
        if done:
            path = out / each.path.relative_to(root)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole({path: each.content(done)})


def _read(path: Path) -> ImageList:
    with decoding(f"{path} must be CSV or lines of JSON"):
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            rows: list[Any] = list(csv.DictReader(io.StringIO(text, newline="")))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(row, dict) and row.get(IMAGE_COLUMN) for row in rows):
        raise InvalidRequestError(f"{path} must have {IMAGE_COLUMN} in each row")
    too_long = next((row for row in rows if None in row), None)  # where `csv` puts what is beyond
    if too_long is not None:
        raise InvalidRequestError(
            f"{path} must have a cell for each column, got {len(too_long[None])} more for "
            f"{too_long[IMAGE_COLUMN]!r:.80}; text with commas goes in quotes"
        )
    return ImageList(path, rows)
