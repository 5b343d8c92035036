"""WebDataset tars: the members of a sample have one key, its name up to the first dot.

    KEY.jpg, or another of the client's    the image
    KEY.logits.npy | .npz                  its class scores (C, h, w)
    KEY.labels.png | .npy | .npz           its coarse map, where that is not the argmax of the
                                           scores, or where there are none

Other members, such as the KEY.json and KEY.txt of img2dataset, are left alone.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk.errors import DamagedShardError
from sam_refine_bulk.inputs.samples import (
    Index,
    Job,
    Sample,
    checked,
    fingerprint_of,
)
from sam_refine_client.inputs.images import IMAGE_SUFFIXES
from sam_refine_client.reading.score_files import array_in

IMAGES: Final = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
LOGITS: Final = ("logits.npy", "logits.npz")
LABELS: Final = ("labels.png", "labels.npy", "labels.npz")
_KNOWN: Final = frozenset((*IMAGES, *LOGITS, *LABELS))
_BLOCK: Final = 512


@dataclass(frozen=True)
class Member:
    """Where a file lies in the tar."""

    name: str
    offset: int
    size: int


@dataclass
class _Group:
    key: str
    occurrence: int
    members: dict[str, Member] = field(default_factory=dict)


@dataclass(frozen=True)
class TarShard:
    """One tar of a data set."""

    name: str
    path: Path

    @property
    def contents(self) -> tuple[str, ...]:
        return ()

    @contextmanager
    def open(self) -> Iterator[Index]:
        """Its samples, readable inside the block. Raises `DamagedShardError`, `OSError`."""
        with self.path.open("rb") as file:
            groups = _groups(self.path)
            samples = [
                checked(
                    Sample(group.key, partial(_job, file.fileno(), group.members), group.occurrence)
                )
                for group in groups
            ]
            facts = ((group.key, sorted(group.members.items())) for group in groups)
            yield Index(samples, fingerprint_of(facts))


def _groups(path: Path) -> list[_Group]:
    """The members by key: in the order in which keys come for the first time.

    A key that has a member of that ending already begins a duplicate.
    """
    latest: dict[str, _Group] = {}
    groups: list[_Group] = []
    for member in _members(path):
        folder, slash, base = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = base.partition(".")
        ending = ending.lower()
        if not stem or ending not in _KNOWN:  # hidden files, too
            continue
        key = f"{folder}{slash}{stem}"
        group = latest.get(key)
        if group is None or ending in group.members:
            group = latest[key] = _Group(key, 0 if group is None else group.occurrence + 1)
            groups.append(group)
        group.members[ending] = member
    return groups


def _members(path: Path) -> Iterator[Member]:
    """All files. A tar that ends too early, or has something else inside, is damaged."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                if info.isreg() and not info.issparse():
                    yield Member(info.name, info.offset_data, info.size)
            end = os.pread(file.fileno(), _BLOCK, tar.offset)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DamagedShardError(f"{path} is no whole tar: {error}; fetch it again") from error
    # tarfile takes the end of the file, and any garbage after the first member, for the end
    if end != bytes(_BLOCK):
        raise DamagedShardError(
            f"{path} is no whole tar: it ends, or is damaged, at byte {tar.offset}; fetch it again"
        )


def _job(descriptor: int, members: dict[str, Member]) -> Job:
    images = [ending for ending in IMAGES if ending in members]
    if len(images) != 1:
        found = f"{images[0]} and {images[1]}" if images else "none"
        raise InvalidRequestError(f"must have one image ({', '.join(IMAGES)}), got {found}")
    logits, labels = ([each for each in known if each in members] for known in (LOGITS, LABELS))
    if max(len(logits), len(labels)) > 1 or not (logits or labels):
        found = " and ".join(logits + labels) or "none"
        raise InvalidRequestError(
            f"must have scores as one {LOGITS[0]} or labels as one {LABELS[0]}, got {found}"
        )
    job: Job = {"image": _content(descriptor, members[images[0]])}
    for name, endings in (("logits", logits), ("labels", labels)):
        for member in (members[ending] for ending in endings):
            content = _content(descriptor, member)
            is_picture = member.name.lower().endswith(".png")
            job[name] = content if is_picture else array_in(content, member.name)
    return job


def _content(descriptor: int, member: Member) -> bytes:
    content = os.pread(descriptor, member.size, member.offset)
    if len(content) != member.size:
        raise InvalidRequestError(f"{member.name} ends before its last byte")
    return content
