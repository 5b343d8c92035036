"""How far a job is, and whether what it wrote is right: read from the output folder alone."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sam_refine_bulk.errors import DamagedShardError
from sam_refine_bulk.inputs.source import Shard
from sam_refine_bulk.outputs.disk import read_record, sha256_of, sidecar_of
from sam_refine_bulk.outputs.layout import PRIVATE, Layout
from sam_refine_bulk.outputs.lock import is_locked
from sam_refine_bulk.outputs.manifest import load
from sam_refine_bulk.outputs.tars import keys_of


@dataclass(frozen=True)
class State:
    """Counts over all shards of a job, whoever did them and however often it was started."""

    shards: int
    committed: int
    at_work: int
    """Shards that a process has now."""
    damaged: dict[str, str]
    """Input shards that cannot be read, and why."""
    done: int
    """Images with a result: in committed shards, and in committed parts of the others."""
    failed: int
    regions: int
    kept: int
    warned: int
    """Images whose input was doubtful: KEY.json says what of it, and how it was taken."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Failed images by reason."""

    @property
    def is_whole(self) -> bool:
        """Whether each shard is committed, though images of it may have failed."""
        return self.committed == self.shards


_SUMS: Final = ("done", "regions", "kept", "warned")
_COUNTS: Final = ("committed", "at_work", "failed", *_SUMS)


def state_of(output: Path, names: Sequence[str] | None = None, *, with_parts: bool = True) -> State:
    """Of all shards, or of those with these names; without parts of what is committed whole.

    Raises `OtherJobError` where the folder is no job's.
    """
    layout = Layout(output)
    names = load(layout).shards if names is None else names
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    damaged: dict[str, str] = {}
    for name in names:
        place = layout.place(name)
        parts = [place.tar]
        if not place.is_committed():
            if (damage := read_record(place.damaged)) is not None:
                damaged[name] = damage["message"]
            parts = sorted(place.parts.glob("[0-9]*.tar")) if with_parts else []
            totals["at_work"] += is_locked(place.lock)
        else:
            totals["committed"] += 1
        for record in map(read_record, map(sidecar_of, parts)):
            if record is not None:
                totals.update({each: record[each] for each in _SUMS})
                totals["failed"] += len(record["failed"])
                reasons.update(fact["reason"] for fact in record["failed"])
    return State(
        shards=len(names),
        damaged=damaged,
        reasons=dict(reasons),
        **{name: totals[name] for name in _COUNTS},
    )


def failed_images(output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The shard and the facts (key, reason, message) of each failed image of committed shards."""
    layout = Layout(output)
    for name in load(layout).shards:
        record = read_record(sidecar_of(layout.place(name).tar))
        for fact in [] if record is None else record["failed"]:
            yield name, fact


def verify(output: Path, shards: Sequence[Shard] | None = None) -> Iterator[str]:
    """What is wrong, a sentence each: nothing where every image is there once, or failed.

    Each tar is read whole, and held against its sidecar; with `shards` against the input as well.
    """
    layout = Layout(output)
    names = load(layout).shards
    inputs = {shard.name: shard for shard in shards or ()}
    for name in names:
        tar = layout.place(name).tar
        if not tar.exists():
            yield f"{name} is not done: run the job again"
        else:
            yield from _wrong_in(tar, inputs.get(name))
    known = {layout.place(name).tar for name in names}
    for path in sorted(output.rglob("*.tar")):
        if path not in known and PRIVATE not in path.relative_to(output).parts:
            yield f"{path} is not of this job"


def _wrong_in(tar: Path, shard: Shard | None) -> Iterator[str]:
    record = read_record(sidecar_of(tar))
    if record is None:
        yield f"{tar} has no sidecar"
        return
    if sha256_of(tar) != record["sha256"]:
        yield f"{tar} is not what its sidecar says: remove both, and run the job again"
        return
    try:
        keys = keys_of(tar)
    except tarfile.TarError as error:
        yield f"{tar} cannot be read: {error}"
        return
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        yield f"{tar} has {twice[0]!r} more than once"
    if len(keys) != record["done"]:
        yield f"{tar} has {len(keys)} images, its sidecar says {record['done']}"
    if shard is None:
        return
    try:
        with shard.open() as index:
            expected = Counter(sample.key for sample in index.samples)
    except (DamagedShardError, OSError) as error:
        yield f"{tar}: the input cannot be read: {error}"
        return
    found = Counter(keys) + Counter(fact["key"] for fact in record["failed"])
    if missing := expected - found:
        yield (
            f"{tar} lacks {missing.total()} images of the input, as {next(iter(missing))!r}; "
            "`bulk retry-failed` refines what was added"
        )
    if more := found - expected:
        yield f"{tar} has {more.total()} images that the input has not, as {next(iter(more))!r}"
