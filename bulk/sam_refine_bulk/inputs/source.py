"""Which shards a data set has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk.inputs.folder import BESIDE_AN_IMAGE, folder_shards
from sam_refine_bulk.inputs.samples import Index, fingerprint_of
from sam_refine_bulk.inputs.tar import TarShard
from sam_refine_client.inputs.images import IMAGE_SUFFIXES, is_hidden

_PACKED: Final = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")


class Shard(Protocol):
    """The unit of work: read whole by one worker, written whole by one rename."""

    @property
    def name(self) -> str:
        """Its path in the data set, without the suffix: that of its output, too."""

    @property
    def contents(self) -> tuple[str, ...]:
        """The names of the files in it, where these alone make it."""

    def open(self) -> AbstractContextManager[Index]:
        """Its samples. Raises `DamagedShardError`, `OSError`."""


@dataclass(frozen=True)
class Source:
    """A data set: a tar, a Parquet file, a folder of such at any depth, or a folder of images."""

    path: str
    logits: str | None = None
    """Of a folder of images: the folder of their scores."""
    labels: str | None = None
    image_column: str | None = None
    scores_column: str | None = None
    key_column: str | None = None
    labels_column: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def shards(self) -> list[Shard]:
        """By name. Raises `InvalidRequestError` where there is none, or what cannot be told."""
        path = Path(self.path)
        files = _files(path)
        if not files:
            if not path.is_dir():
                raise InvalidRequestError(
                    f"{path} must be a tar, a Parquet file, or a folder of such or of images"
                )
            logits, labels = (
                None if each is None else Path(each) for each in (self.logits, self.labels)
            )
            return [*folder_shards(path, logits, labels)]
        if self.logits or self.labels:
            raise InvalidRequestError(
                f"{path} has shards, whose scores and labels are inside: it goes without --logits "
                "and --labels"
            )
        root = path if path.is_dir() else path.parent
        shards = [self._shard(each, root) for each in files]
        by_name: dict[str, Path] = {}
        for shard, file in zip(shards, files, strict=True):
            if (other := by_name.setdefault(shard.name, file)) is not file:
                raise InvalidRequestError(
                    f"{path} must have one shard of a name, got {other.relative_to(root)} and "
                    f"{file.relative_to(root)}, whose results would be one file"
                )
        return shards

    def said_of_left_out(self) -> str | None:
        """A sentence of images in folders below one that has images itself; None without any."""
        path = Path(self.path)
        if not path.is_dir():
            return None
        own = [each for each in path.iterdir() if _is_image(each) and each.is_file()]
        if not own:  # nothing to look for
            return None
        maps = {Path(each) for each in (self.logits, self.labels) if each is not None}
        below = sorted(
            each
            for each in _walk(path)
            if _is_image(each) and each.parent != path and not maps & {*each.parents}
        )
        if not below:
            return None
        return (
            f"{len(below)} images of its folders left out ({below[0].relative_to(path)}), as it "
            f"has images itself ({min(own).name}): give these a folder, too"
        )

    @staticmethod
    def inventory(shards: Sequence[Shard]) -> str:
        """The digest of the shards and their contents."""
        return fingerprint_of(fact for each in shards for fact in (each.name, *each.contents))

    def _shard(self, file: Path, root: Path) -> Shard:
        relative = file.relative_to(root)
        name = relative.as_posix()[: -len(file.suffix)]
        if file.suffix.lower() == ".tar":
            return TarShard(name, file)
        if find_spec("pyarrow") is None:
            raise InvalidRequestError(
                f'{file} needs pyarrow: pip install "sam-refine[bulk]"; pyarrow missing'
            )
        from sam_refine_bulk.inputs.parquet import Columns, ParquetShard

        columns = Columns(
            self.image_column, self.scores_column, self.key_column, self.labels_column
        )
        return ParquetShard(name, file, columns)


def _files(path: Path) -> list[Path]:
    """The tars and Parquet files; of img2dataset's pairs the tar, as the other has its facts."""
    found = sorted(_walk(path)) if path.is_dir() else [path]
    endings = _PACKED if path.is_dir() else (*_PACKED, ".zip")
    packed = [each for each in found if each.name.lower().endswith(endings)]
    if packed:
        raise InvalidRequestError(
            f"{packed[0]} is compressed, so that no sample can be found in it: unpack it to a .tar"
        )
    if not path.is_dir():
        return [path] if path.suffix.lower() in (".tar", ".parquet") else []
    tars = {each.with_suffix("") for each in found if each.suffix.lower() == ".tar"}
    files = [
        each
        for each in found
        if each.suffix.lower() == ".tar"
        or (each.suffix.lower() == ".parquet" and each.with_suffix("") not in tars)
    ]
    stray = [each for each in found if each.suffix.lower() in IMAGE_SUFFIXES]
    if files and stray:
        raise InvalidRequestError(
            f"{path} has shards and images beside them ({stray[0].name}): give each its own folder"
        )
    return files


def _is_image(path: Path) -> bool:
    """By its name: of an image, and of no coarse map beside one."""
    return (
        path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.endswith(BESIDE_AN_IMAGE)
        and not is_hidden(path.name)
    )


def _walk(path: Path) -> Iterator[Path]:
    for each in path.rglob("*"):
        if not any(map(is_hidden, each.relative_to(path).parts)) and each.is_file():
            yield each
