"""How long refinements take at this server, so that none is begun that would come too late."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final

from sam_refine.contract.serving.turns import too_late

NEWEST: Final = 0.3
"""Weight of the newest time in the means."""
REFUSAL: Final = 0.9
"""What a refusal leaves of a time that has grown old: it wears off, and the work is tried."""


class TooLateError(Exception):
    """The work would end after its caller's deadline, and was not begun."""


@dataclass
class _Time:
    """What is known of one kind of work."""

    mean_s: float
    deviation_s: float
    """Mean distance from the mean."""
    ended_s: float
    """When such work has ended last."""

    @property
    def needed_s(self) -> float:
        """What such work is given: with the mean alone, half of it would come too late."""
        return self.mean_s + self.deviation_s

    def add(self, taken_s: float, ended_s: float) -> None:
        self.deviation_s += NEWEST * (abs(taken_s - self.mean_s) - self.deviation_s)
        self.mean_s += NEWEST * (taken_s - self.mean_s)
        self.ended_s = ended_s

    def wear_off(self, now_s: float) -> None:
        """By a refusal: not of what has just been measured, as where calls wait in a queue."""
        if now_s - self.ended_s > self.needed_s:
            self.mean_s *= REFUSAL
            self.deviation_s *= REFUSAL


class WorkTimes:
    """How long the work took, apart for each kind of it."""

    def __init__(self) -> None:
        self._times: dict[Hashable, _Time] = {}
        self._lock = Lock()

    @contextmanager
    def within(self, work_time_s: float | None, kind: Hashable) -> Iterator[None]:
        """The block is work of this kind; its time is counted if it succeeds.

        Raises `TooLateError` before the block if it is known to take longer than `work_time_s`;
        None takes any time.
        """
        begun_s = time.monotonic()
        with self._lock:
            known = self._times.get(kind)
            if known is not None and work_time_s is not None and known.needed_s > work_time_s:
                needed_s = known.needed_s
                known.wear_off(begun_s)
                raise TooLateError(too_late(needed_s, work_time_s))
        yield
        ended_s = time.monotonic()
        with self._lock:
            if kind in self._times:
                self._times[kind].add(ended_s - begun_s, ended_s)
            else:
                self._times[kind] = _Time(ended_s - begun_s, 0.0, ended_s)


def size_class(size_image: tuple[int, int]) -> int:
    """Images of (H, W) that take about the same time: those of one power of 2 of pixels."""
    return round(math.log2(size_image[0] * size_image[1]))
