"""Parquet: a row is a sample. Needs the extra `bulk`'s pyarrow.

The image is the bytes of a picture's file, or as HuggingFace's data sets have it, a struct with
`bytes`. Scores are the bytes of a .npy file, or lists of lists of lists of numbers (C, h, w), as
`Array3D` is stored; labels those of a picture or a .npy, or lists of lists (H, W).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk.errors import DamagedShardError
from sam_refine_bulk.inputs.samples import (
    Index,
    Job,
    Sample,
    checked,
    fingerprint_of,
)
from sam_refine_client.reading.score_files import LABEL_NAMES, OF_NUMPY, array_in

IMAGE_COLUMNS: Final = ("image", "jpg", "jpeg", "png", "webp")
SCORES_COLUMNS: Final = ("logits", "scores", "logits.npy")
LABELS_COLUMNS: Final = ("labels", "label", "annotation", "mask", "segmentation_mask", "labels.png")
"""Looked for where there are no scores, beside which a data set may have the truth."""
KEY_COLUMNS: Final = ("key", "__key__", "id", "file_name", "filename")
_ROWS_AT_A_TIME: Final = 16


@dataclass(frozen=True)
class Columns:
    """Which columns have what; None takes the first of the usual names."""

    image: str | None = None
    scores: str | None = None
    key: str | None = None
    labels: str | None = None


@dataclass(frozen=True)
class ParquetShard:
    """One Parquet file of a data set."""

    name: str
    path: Path
    columns: Columns

    @property
    def contents(self) -> tuple[str, ...]:
        return ()

    @contextmanager
    def open(self) -> Iterator[Index]:
        """Its samples, readable inside the block. Raises `DamagedShardError`, `OSError`."""
        try:
            with pq.ParquetFile(self.path) as file:
                names = file.schema_arrow.names
                image = _column(self.path, "image", self.columns.image, IMAGE_COLUMNS, names)
                maps = _maps(self.path, self.columns, file.schema_arrow)
                keys = _keys(file, self.columns.key, self.path)
                rows = _Rows(file, image, maps)
                seen: Counter[str] = Counter()
                samples = []
                for row, key in enumerate(keys):
                    samples.append(checked(Sample(key, partial(rows.job, row), seen[key])))
                    seen[key] += 1
                size = self.path.stat().st_size
                yield Index(samples, fingerprint_of([size, image, *maps.values(), *keys]))
        except pa.ArrowException as error:
            raise DamagedShardError(f"{self.path} is no whole Parquet file: {error}") from error


def _column(
    path: Path, what: str, wanted: str | None, usual: Sequence[str], names: Sequence[str]
) -> str:
    found = [name for name in ((wanted,) if wanted else usual) if name in names]
    if not found:
        rule = wanted or ", ".join(usual)
        raise DamagedShardError(
            f"{path} has no column of {what} ({rule}), it has {', '.join(names)}; name it with "
            f"--{what}-column"
        )
    return found[0]


def _maps(path: Path, columns: Columns, schema: pa.Schema) -> dict[str, str]:
    """The columns of "logits", "labels" or both, by these names."""
    names = schema.names
    scores = columns.scores or next((name for name in SCORES_COLUMNS if name in names), None)
    labels = columns.labels
    if scores is None and labels is None:
        maps = [field.name for field in schema if _may_be_map(field.type)]
        labels = next((name for name in LABELS_COLUMNS if name in maps), None)
    if scores is None and labels is None:
        raise DamagedShardError(
            f"{path} has no column of scores ({', '.join(SCORES_COLUMNS)}) or of label maps "
            f"({', '.join(LABELS_COLUMNS)}), it has {', '.join(names)}; name one with "
            "--scores-column or --labels-column"
        )
    found = {}
    if scores is not None:
        found["logits"] = _column(path, "scores", scores, SCORES_COLUMNS, names)
    if labels is not None:
        found["labels"] = _column(path, "labels", labels, (), names)
    return found


def _may_be_map(kind: Any) -> bool:
    """Whether a column may have pictures or arrays: "label" is a number elsewhere."""
    tests = (pa.types.is_struct, pa.types.is_binary, pa.types.is_large_binary, _is_list)
    return any(test(kind) for test in tests)


def _keys(file: pq.ParquetFile, wanted: str | None, path: Path) -> list[str]:
    """A key for each row: of its column, or the number of the row."""
    names = file.schema_arrow.names
    if wanted is not None and wanted not in names:
        raise DamagedShardError(f"{path} has no column {wanted}, it has {', '.join(names)}")
    column = wanted or next((name for name in KEY_COLUMNS if name in names), None)
    if column is None:
        return [f"{row:08}" for row in range(file.metadata.num_rows)]
    values = file.read(columns=[column]).column(column).to_pylist()
    return ["" if value is None else str(value) for value in values]


class _Rows:
    """Rows in their order, a few in memory; one that is asked for again is read again."""

    def __init__(self, file: pq.ParquetFile, image: str, maps: dict[str, str]) -> None:
        self._file = file
        self._maps = maps
        self._columns = [image, *maps.values()]
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None
        self._start = self._end = 0

    def job(self, row: int) -> Job:
        if not self._start <= row < self._end:
            self._seek(row)
        image, *maps = (self._batch.column(name)[row - self._start] for name in self._columns)
        read = {"logits": _scores, "labels": _labels}
        found = zip(self._maps, maps, strict=True)
        return {"image": _bytes(image, "an image")} | {
            name: read[name](value) for name, value in found
        }

    def _seek(self, row: int) -> None:
        if row != self._end:
            first, group = 0, 0
            while row >= first + self._file.metadata.row_group(group).num_rows:
                first += self._file.metadata.row_group(group).num_rows
                group += 1
            self._end = first
            self._batches = self._read(range(group, self._file.num_row_groups))
        elif self._batch is None:
            self._batches = self._read(range(self._file.num_row_groups))
        while row >= self._end:
            self._batch = next(self._batches)
            self._start, self._end = self._end, self._end + len(self._batch)

    def _read(self, groups: range) -> Iterator[Any]:
        batches: Iterator[Any] = self._file.iter_batches(
            _ROWS_AT_A_TIME, row_groups=list(groups), columns=self._columns
        )
        return batches


def _bytes(value: Any, what: str) -> bytes:
    """The bytes of a value, or of a struct's."""
    path = None
    if pa.types.is_struct(value.type) and value.is_valid:
        path = value["path"].as_py() if "path" in value.type.names else None
        value = value["bytes"] if "bytes" in value.type.names else value
    if value.is_valid and (pa.types.is_string(value.type) or pa.types.is_large_string(value.type)):
        path = value.as_py()
    elif value.is_valid and not pa.types.is_struct(value.type) and not _is_list(value.type):
        content = value.as_py()
        if isinstance(content, bytes):
            return content
    found = f"a column of {value.type}" if value.is_valid else "none"
    if path is not None:
        found = f"the text {path!r:.80}; a path is not followed, put the file's bytes there"
    raise InvalidRequestError(f"must have the bytes of {what}, got {found}")


def _scores(value: Any) -> npt.NDArray[Any]:
    if not value.is_valid:
        raise InvalidRequestError("must have scores, got none")
    rule = "must have scores as lists (C, h, w) or as the bytes of a .npy"
    if _is_list(value.type):
        return _of_lists(value, 3, rule)
    return array_in(_bytes(value, "scores as a .npy"), "scores")


def _labels(value: Any) -> bytes | npt.NDArray[Any]:
    if not value.is_valid:
        raise InvalidRequestError("must have labels, got none")
    if _is_list(value.type):
        return _of_lists(value, 2, "must have labels as lists (H, W), a picture, or a .npy")
    content = _bytes(value, "a label map")
    return array_in(content, "labels", LABEL_NAMES) if content.startswith(OF_NUMPY) else content


def _of_lists(value: Any, axes: int, rule: str) -> npt.NDArray[Any]:
    shape: list[int] = []
    values = value.values
    while _is_list(values.type):
        shape.append(len(values))
        values = values.flatten()
    shape.append(len(values))  # C, C * h, C * h * w
    sizes = [whole // max(above, 1) for above, whole in zip([1, *shape], shape, strict=False)]
    if len(shape) != axes or int(np.prod(sizes)) != len(values) or values.null_count:
        raise InvalidRequestError(rule)
    numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return numbers.reshape(sizes)


def _is_list(kind: Any) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)
