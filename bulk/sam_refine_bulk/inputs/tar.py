"""WebDataset tars: the members of a sample have one key, its name up to the first dot.

Where no member of such a key is known, dots are taken as part of it, "street.v1.jpg", and where an
image and its coarse map have the same ones.

    KEY.jpg, or another of the client's    the image
    KEY.logits.npy | .npz                  its class scores (C, h, w)
    KEY.labels.png | .npy | .npz           its coarse map, where that is not the argmax of the
                                           scores, or where there are none

Other members, such as the KEY.json and KEY.txt of img2dataset, are left alone. Links are what they
lead to.
"""

from __future__ import annotations

import os
import posixpath
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
from sam_refine_client.reading.score_files import LABEL_NAMES, SCORE_NAMES, array_in

IMAGES: Final = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
LOGITS: Final = ("logits.npy", "logits.npz")
LABELS: Final = ("labels.png", "labels.npy", "labels.npz")
_KNOWN: Final = frozenset((*LOGITS, *LABELS, *IMAGES))
_BLOCK: Final = 512
_NOWHERE: Final = -1
_MOST_SHOWN: Final = 3


@dataclass(frozen=True)
class Member:
    """Where a file lies in the tar."""

    name: str
    offset: int
    """`_NOWHERE` for a link that leads out of the tar, and for a file with holes."""
    size: int


@dataclass
class _Group:
    key: str
    place: int
    """Where its first member is in the tar."""
    occurrence: int
    members: dict[str, Member] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    """The endings of the members of its key that are not known."""


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
                checked(Sample(each.key, partial(_job, file.fileno(), each), each.occurrence))
                for each in groups
            ]
            facts = ((group.key, sorted(group.members.items())) for group in groups)
            yield Index(samples, fingerprint_of(facts))


def _groups(path: Path) -> list[_Group]:
    """The members by key: in the order in which keys come for the first time.

    A key that has a member of that ending already begins a duplicate. Raises `DamagedShardError`
    for a tar of other files only.
    """
    latest: dict[str, _Group] = {}
    groups: list[_Group] = []

    def add(key: str, ending: str, place: int, member: Member) -> None:
        group = latest.get(key)
        if group is None or ending in group.members:
            occurrence = 0 if group is None else group.occurrence + 1
            group = latest[key] = _Group(key, place, occurrence)
            groups.append(group)
        group.members[ending] = member

    left: list[tuple[str, str, int, Member]] = []
    for place, member in _members(path):
        folder, slash, base = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = base.partition(".")
        key = f"{folder}{slash}{stem}"
        if not stem:  # hidden files
            continue
        if ending.lower() in _KNOWN:
            add(key, ending.lower(), place, member)
        else:
            left.append((key, ending, place, member))
    undotted = dict(latest)
    dotted = [_dotted(key, ending) for key, ending, *_ in left]
    are_maps: dict[str, set[bool]] = {}
    for key, known in dotted:
        are_maps.setdefault(key, set()).add(known not in IMAGES)
    for (key, ending, place, member), (own_key, known) in zip(left, dotted, strict=True):
        if known and (key not in undotted or len(are_maps[own_key]) == 2):
            add(own_key, known, place, member)
        elif key in undotted:
            undotted[key].others.append(ending)
    if left and not groups:
        names = ", ".join(member.name for *_, member in left[:_MOST_SHOWN])
        raise DamagedShardError(
            f"{path} has no sample, KEY.jpg with KEY.{LOGITS[0]} or KEY.{LABELS[0]}, but files "
            f"such as {names}"
        )
    return sorted(groups, key=lambda each: each.place)


def _dotted(key: str, ending: str) -> tuple[str, str]:
    """The key with the dots in it, and the known ending behind them; "" where it is none."""
    for known in (*LOGITS, *LABELS, *IMAGES):  # "labels.png" is no "png"
        if ending.lower().endswith(f".{known}"):
            return f"{key}.{ending[: -len(known) - 1]}", known
    return key, ""


def _members(path: Path) -> Iterator[tuple[int, Member]]:
    """All files with their places. A tar that ends too early, or is something else, is damaged."""
    links: list[tarfile.TarInfo] = []
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                if info.isreg():
                    yield info.offset, _member(info.name, info)
                elif info.issym() or info.islnk():
                    links.append(info)
            end = os.pread(file.fileno(), _BLOCK, tar.offset)
            files = {each.name: each for each in tar.getmembers()} if links else {}
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DamagedShardError(f"{path} is no whole tar: {error}{_advice(path)}") from error
    # tarfile takes the end of the file, and any garbage after the first member, for the end
    if end != bytes(_BLOCK):
        raise DamagedShardError(
            f"{path} is no whole tar: it ends, or is damaged, at byte {tar.offset}; fetch it again"
        )
    for info in links:
        yield info.offset, _member(info.name, _target(info, files))


def _member(name: str, file: tarfile.TarInfo | None) -> Member:
    if file is None or not file.isreg() or file.issparse():
        return Member(name, _NOWHERE, 0)
    return Member(name, file.offset_data, file.size)


def _target(link: tarfile.TarInfo, files: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The file that a link leads to; None where it is not in the tar."""
    found: tarfile.TarInfo | None = link
    for _ in range(_MOST_LINKS):
        if found is None or not (found.issym() or found.islnk()):
            return found
        name = found.linkname
        if found.issym():
            name = posixpath.normpath(posixpath.join(posixpath.dirname(found.name), name))
        found = files.get(name, files.get(f"./{name}"))
    return None


_MOST_LINKS: Final = 40


def _advice(path: Path) -> str:
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
    return "; it is compressed: unpack it to a .tar, gunzip" if is_gzip else "; fetch it again"


_GZIP: Final = b"\x1f\x8b"


def _job(descriptor: int, group: _Group) -> Job:
    members = group.members
    beside = f"; of its key it has {', '.join(group.others)}" if group.others else ""
    images = [ending for ending in IMAGES if ending in members]
    if len(images) != 1:
        found = f"{images[0]} and {images[1]}" if images else f"none{beside}"
        hint = f"; call a label map KEY.{LABELS[0]}" if images else ""
        raise InvalidRequestError(f"must have one image ({', '.join(IMAGES)}), got {found}{hint}")
    logits, labels = ([each for each in known if each in members] for known in (LOGITS, LABELS))
    if max(len(logits), len(labels)) > 1 or not (logits or labels):
        found = " and ".join(logits + labels) or f"none{beside}"
        raise InvalidRequestError(
            f"must have scores as one {LOGITS[0]} or labels as one {LABELS[0]}, got {found}"
        )
    job: Job = {"image": _content(descriptor, members[images[0]])}
    for name, endings in (("logits", logits), ("labels", labels)):
        for ending in endings:
            content = _content(descriptor, members[ending])
            is_picture = ending.endswith(".png")
            names = LABEL_NAMES if name == "labels" else SCORE_NAMES
            called = members[ending].name
            job[name] = content if is_picture else array_in(content, called, names)
    return job


def _content(descriptor: int, member: Member) -> bytes:
    if member.offset == _NOWHERE:
        raise InvalidRequestError(
            f"{member.name} must be a whole file in the tar, got a link out of it, or a sparse file"
        )
    content = os.pread(descriptor, member.size, member.offset)
    if len(content) != member.size:
        raise InvalidRequestError(f"{member.name} ends before its last byte")
    return content
