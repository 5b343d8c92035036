"""Whether a service takes more and more, though its processes are killed and replaced.

A fresh process takes less than one that has worked, so no two moments can be compared. The most
that a process of a kind takes in the first half of a run can be, with the same of the second half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sam_refine.contract.serving.run_directory import SHARED_MEMORY

MIB: Final = 2**20
LEAST_SAMPLES: Final = 240
"""In fewer, not every kind of process has worked for long in both halves."""
MOST_GROWTH: Final = 0.25
"""Of what was taken, and on top of that:"""
MOST_MORE_MIB: Final = 32
MOST_MORE_FILES: Final = 16


@dataclass(frozen=True)
class Taken:
    """What a process takes."""

    memory_bytes: int
    """Of its own, without what it shares."""
    files: int
    """Open ones, sockets among them."""

    def or_more(self, other: Taken) -> Taken:
        """The larger of each."""
        return Taken(max(self.memory_bytes, other.memory_bytes), max(self.files, other.files))


NOTHING: Final = Taken(0, 0)
TRITONSERVER: Final = "tritonserver"
LEFT_BY_RELOAD: Final = {TRITONSERVER: Taken(6 * MIB, 2), str(SHARED_MEMORY): Taken(16 * MIB, 2)}
"""What a stub that was replaced may leave behind until tritonserver is started anew: half as much
again as one was seen to leave."""


@dataclass(frozen=True)
class Sample:
    """What a service takes at one moment."""

    reloads: int
    """Models that were loaded anew since tritonserver was started."""
    taken: Mapping[str, Taken]
    """By kind; of several processes the most that one takes. One that is being replaced may be
    missing."""


def are_enough(samples: Sequence[Sample]) -> bool:
    """Whether a run was long enough for a verdict."""
    return len(samples) >= LEAST_SAMPLES


def growth(samples: Sequence[Sample]) -> list[str]:
    """What has grown beyond the bound, in words; `samples` of a whole run, at equal distances."""
    middle = len(samples) // 2
    before, after = _most(samples[:middle]), _most(samples[middle:])
    grown = []
    for kind in sorted(before.keys() & after.keys()):
        was, became = before[kind], after[kind]
        for unit, first, second, most_more in (
            ("MiB", was.memory_bytes / MIB, became.memory_bytes / MIB, MOST_MORE_MIB),
            ("open files", was.files, became.files, MOST_MORE_FILES),
        ):
            if second > first * (1 + MOST_GROWTH) + most_more:
                grown.append(f"{kind} from {first:.0f} to {second:.0f} {unit}")
    return grown


def _most(samples: Sequence[Sample]) -> dict[str, Taken]:
    """By kind, without what reloads may leave."""
    most: dict[str, Taken] = {}
    for sample in samples:
        for kind, taken in sample.taken.items():
            left = LEFT_BY_RELOAD.get(kind, NOTHING)
            memory_bytes = taken.memory_bytes - sample.reloads * left.memory_bytes
            files = taken.files - sample.reloads * left.files
            most[kind] = most.get(kind, NOTHING).or_more(Taken(memory_bytes, files))
    return most
