"""One shard on its way: which images are to do, parts that are committed, the commit of all."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sam_refine_bulk.errors import DamagedShardError, OutputError
from sam_refine_bulk.inputs.samples import Index, fingerprint_of
from sam_refine_bulk.inputs.source import Shard
from sam_refine_bulk.outputs.disk import Disk, read_record, sha256_of, sidecar_of, to_bytes
from sam_refine_bulk.outputs.layout import Layout, Place
from sam_refine_bulk.outputs.lock import locked
from sam_refine_bulk.outputs.tars import END, keys_of, payload
from sam_refine_bulk.results import Done, Failed, Result

IMAGES_OF_A_PART: Final = 256
DONE: Final = "done"
_PART: Final = re.compile(r"(\d{8})-(\d{8})\.tar")


@dataclass(frozen=True)
class Part:
    """Committed results of the images [start, end) of those to do, or of an earlier run (0, 0)."""

    path: Path
    start: int
    end: int
    record: Mapping[str, Any]


class ShardWork:
    """A shard that this process has the lock of; `samples` are to do, numbered from 0.

    Results are taken in any order. As soon as those of `part` images in a row are there, they are
    committed; with the last one all of the shard is.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        index: Index,
        disk: Disk,
        part: int,
        before: Part | None,
    ) -> None:
        """`before` is a committed result, to which only what is missing in it is added."""
        self.name = name
        self._place = place
        self._disk = disk
        self._part = part
        self._results: dict[int, Result] = {}
        self.samples = index.samples
        facts = [index.fingerprint]
        self._parts: list[Part] = []
        if before is not None:
            done = set(keys_of(before.path))
            self.samples = [
                each for each in index.samples if each.occurrence or each.key not in done
            ]
            self._parts.append(before)
            facts.append(before.record["sha256"])
        self._index_fingerprint = index.fingerprint
        self._fingerprint = fingerprint_of(facts)
        self._parts += self._committed_parts()
        self.is_committed = False

    @property
    def next(self) -> int:
        """The first image without a committed result."""
        return self._parts[-1].end if self._parts else 0

    @property
    def images(self) -> int:
        """All of the shard, those of an earlier result too."""
        before = [part for part in self._parts if part.start == part.end]
        return len(self.samples) + sum(int(part.record["done"]) for part in before)

    @property
    def counts(self) -> dict[str, int]:
        """Images that are committed already, by DONE or the `Reason` for which they failed."""
        counts = Counter({DONE: sum(part.record["done"] for part in self._parts)})
        for part in self._new_parts():
            counts.update(fact["reason"] for fact in part.record["failed"])
        return dict(counts)

    def take(self, number: int, result: Result) -> None:
        """Keep the result of an image. Raises `OutputError`."""
        self._results[number] = result
        end = self.next
        while end in self._results:
            end += 1
        if end - self.next >= self._part or end == len(self.samples):
            self._commit_part(end)
        self.commit_if_whole()

    def commit_if_whole(self) -> None:
        """Commit the shard where no image is to do any more. Raises `OutputError`."""
        if self.next == len(self.samples) and not self.is_committed:
            self._commit_shard()
            self.is_committed = True

    def _new_parts(self) -> list[Part]:
        return [part for part in self._parts if part.end > part.start]

    def _committed_parts(self) -> list[Part]:
        """Those that an earlier run has left, one after the other; the rest is removed."""
        found: dict[int, Part] = {}
        kept = []
        for path in sorted(self._place.parts.glob("*.tar")):
            record = read_record(sidecar_of(path))
            match = _PART.fullmatch(path.name)
            if (
                match is not None
                and record is not None
                and record["shard"] == self._fingerprint
                and sha256_of(path) == record["sha256"]
            ):
                start, end = map(int, match.groups())
                found[start] = Part(path, start, end, record)
        start = 0
        while start in found and found[start].end <= len(self.samples):
            kept.append(found[start])
            start = found[start].end
        keep = {each for part in kept for each in (part.path, sidecar_of(part.path))}
        for path in self._place.parts.glob("*"):
            if path not in keep:
                self._disk.remove(path)
        return kept

    def _commit_part(self, end: int) -> None:
        start = self.next
        if end == start:
            return
        results = [self._results[number] for number in range(start, end)]
        done = [each for each in results if isinstance(each, Done)]
        content = b"".join(each.members for each in done)
        aside = self._place.parts / f"part-{uuid.uuid4().hex}.tar"
        record = {
            "shard": self._fingerprint,
            "sha256": self._disk.write(aside, [content, END]),
            "payload_bytes": len(content),
            "done": len(done),
            "regions": sum(each.regions for each in done),
            "kept": sum(each.kept for each in done),
            "warned": sum(bool(each.warnings) for each in done),
            "failed": [each.to_json() for each in results if isinstance(each, Failed)],
        }
        path = self._place.parts / f"{start:08}-{end:08}.tar"
        self._disk.commit(aside, path, record)
        self._parts.append(Part(path, start, end, record))
        for number in range(start, end):
            del self._results[number]

    def _commit_shard(self) -> None:
        """All parts one after the other as the shard's tar; then they go."""
        records = [part.record for part in self._parts]
        aside = self._place.aside()

        def content() -> Iterator[bytes]:
            for part in self._parts:
                yield from payload(part.path, part.record["payload_bytes"])
            yield END

        record: dict[str, Any] = {
            "sha256": self._disk.write(aside, content()),
            "fingerprint": self._index_fingerprint,
            "failed": [fact for part in self._new_parts() for fact in part.record["failed"]],
        }
        for count in ("done", "regions", "kept", "warned", "payload_bytes"):
            record[count] = sum(each[count] for each in records)
        record["images"] = record["done"] + len(record["failed"])
        self._disk.commit(aside, self._place.tar, record)
        self._disk.remove(self._place.work)


@contextmanager
def opened(
    shard: Shard, layout: Layout, disk: Disk, *, part: int, retry: bool = False
) -> Iterator[ShardWork | None]:
    """The work of a shard, its lock held; None where there is none, or another process has it.

    What an earlier run had begun is ended first. With `retry` the images that failed are to do
    again, and those that were added. Raises `DamagedShardError` for an input that cannot be read,
    which is noted in the output folder, and `OutputError`.
    """
    place = layout.place(shard.name)
    if place.is_committed() and not place.work.exists() and not retry:
        yield None
        return
    with locked(place.lock) as is_mine:
        if not is_mine:
            yield None
            return
        disk.settle(place.asides(), place.tar)
        before = None
        if place.is_committed():
            before = _committed(place) if retry else None
            if before is None:
                _remove_work(place, disk)
                yield None
                return
        try:
            with shard.open() as index:
                if place.damaged.exists():
                    disk.remove(place.damaged)
                work = ShardWork(shard.name, place, index, disk, part, before)
                if before is None or before.record["failed"] or work.samples:
                    yield work
                else:  # none failed, and none was added
                    _remove_work(place, disk)
                    yield None
        except (DamagedShardError, OSError) as error:
            damage = DamagedShardError(str(error))
            _note_damage(place, disk, damage)
            raise damage from error


def _committed(place: Place) -> Part:
    """What was committed, to be added to. Raises `OutputError` where it is not what it was."""
    record = read_record(sidecar_of(place.tar))
    if record is None or sha256_of(place.tar) != record["sha256"]:
        raise OutputError(
            f"{place.tar} and its sidecar do not fit: remove both, and run the job again"
        )
    return Part(place.tar, 0, 0, record)


def _remove_work(place: Place, disk: Disk) -> None:
    if place.work.exists():
        disk.remove(place.work)


def _note_damage(place: Place, disk: Disk, error: DamagedShardError) -> None:
    if not place.damaged.exists():
        aside = place.damaged.with_name(f"{uuid.uuid4().hex}.json")
        disk.write(aside, [to_bytes({"message": str(error)})])
        disk.replace(aside, place.damaged)
