"""A folder of images, in shards of so many; what goes with each is found as `refine` finds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk.inputs.samples import Index, Job, Sample, checked, fingerprint_of
from sam_refine_client.inputs.coarse_maps import CoarseMaps
from sam_refine_client.inputs.images import ImageFile, find_images

IMAGES_OF_A_SHARD: Final = 1024
_LOGITS: Final = ".logits.npy"
BESIDE_AN_IMAGE: Final = ".labels.png"
"""The ending of a coarse map beside its image, which is no image itself."""


@dataclass(frozen=True)
class FolderShard:
    """Some images of a folder."""

    name: str
    images: tuple[ImageFile, ...]
    logits: Path | None
    """The folder of their scores. Without `labels` None means what lies beside each image:
    KEY.logits.npy, KEY.labels.png or both."""
    labels: Path | None

    @property
    def contents(self) -> tuple[str, ...]:
        return tuple(f"{each.folder}/{each.path.name}" for each in self.images)

    @contextmanager
    def open(self) -> Iterator[Index]:
        """Its samples; one whose file is gone fails. Raises `OSError` where all are."""
        samples = [checked(Sample(each.name, partial(self._job, each))) for each in self.images]
        sizes = [_size(each.path) for each in self.images]
        if all(size is None for size in sizes):  # a folder that is not mounted
            self.images[0].path.stat()
        names = (each.name for each in self.images)
        yield Index(samples, fingerprint_of(zip(names, sizes, strict=True)))

    def _job(self, image: ImageFile) -> Job:
        if self.logits is not None or self.labels is not None:
            return CoarseMaps(self.logits, self.labels).job(image)
        beside = [
            image.path.with_name(f"{image.stem}{ending}") for ending in (_LOGITS, BESIDE_AN_IMAGE)
        ]
        logits, labels = (each if each.exists() else None for each in beside)
        if logits is None and labels is None:
            raise InvalidRequestError(
                f"must have {beside[0].name} or {beside[1].name} beside it, got none"
            )
        return CoarseMaps(logits, labels).job(image)


def _size(path: Path) -> int | None:
    """In bytes; None where there is no such file, or a link to none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def folder_shards(path: Path, logits: Path | None, labels: Path | None) -> list[FolderShard]:
    """The shards of a folder: of its images, or where it has none itself of its folders' images.

    Raises `InvalidRequestError` where there is no image.
    """
    try:
        images = find_images(path)
    except InvalidRequestError:
        images = find_images(path, recursive=True)
    images = [each for each in images if not each.path.name.endswith(BESIDE_AN_IMAGE)]
    for place in (logits, labels):
        if place is not None and not place.is_dir():
            raise InvalidRequestError(f"{path} is a folder, so {place} must be one, too")
    return [
        FolderShard(
            f"images-{start // IMAGES_OF_A_SHARD:05}",
            tuple(images[start : start + IMAGES_OF_A_SHARD]),
            logits,
            labels,
        )
        for start in range(0, len(images), IMAGES_OF_A_SHARD)
    ]
