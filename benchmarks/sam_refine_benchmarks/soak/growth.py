"""Whether a service takes more and more, though its processes are killed and replaced.

A fresh process takes less than one that has worked, so no two moments can be compared. Two spans
of time can: all processes of a kind, added up, in the median of a run's second quarter and of its
last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

MIB: Final = 2**20
LEAST_SAMPLES: Final = 60
"""Of a quarter. In fewer, one process that is killed and heals makes too much of a difference."""
MOST_GROWTH: Final = 0.25
"""Of what was taken, and on top of that:"""
MOST_MORE_MIB: Final = 32
MOST_MORE_FILES: Final = 16


@dataclass(frozen=True)
class Taken:
    """What all processes of a kind take together."""

    memory_bytes: int
    """Of their own, without what they share."""
    files: int
    """Open ones, sockets among them."""


Sample = Mapping[str, Taken]
"""By kind. One whose processes are being replaced may be missing."""


def are_enough(samples: Sequence[Sample]) -> bool:
    """Whether a run was long enough for a verdict."""
    return len(samples) >= 4 * LEAST_SAMPLES


def growth(samples: Sequence[Sample]) -> list[str]:
    """What has grown beyond the bound, in words; `samples` of a whole run, at equal distances."""
    quarter = len(samples) // 4
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]
    kinds = {kind for sample in before for kind in sample}
    grown = []
    for kind in sorted(kinds & {kind for sample in after for kind in sample}):
        first, last = (_of_kind(kind, half) for half in (before, after))
        for unit, most_more in (("MiB", MOST_MORE_MIB), ("open files", MOST_MORE_FILES)):
            was, became = median(first[unit]), median(last[unit])
            if became > was * (1 + MOST_GROWTH) + most_more:
                grown.append(f"{kind} from {was:.0f} to {became:.0f} {unit}")
    return grown


def _of_kind(kind: str, samples: Sequence[Sample]) -> dict[str, list[float]]:
    """By unit."""
    found = [sample[kind] for sample in samples if kind in sample]
    return {
        "MiB": [taken.memory_bytes / MIB for taken in found],
        "open files": [float(taken.files) for taken in found],
    }
