"""How long refinements take at this server, so that none is begun that would come too late."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from sam_refine.contract.serving.turns import too_late

NEWEST: Final = 0.3
"""Weight of the newest time in the mean."""
REFUSAL: Final = 0.9
"""What a refusal leaves of the mean: one that has grown old wears off, and the work is tried."""


class TooLateError(Exception):
    """The work would end after its caller's deadline, and was not begun."""


class WorkTimes:
    """Means of how long the work took, apart for each kind of it."""

    def __init__(self) -> None:
        self._means_s: dict[Hashable, float] = {}
        self._lock = Lock()

    @contextmanager
    def within(self, work_time_s: float | None, kind: Hashable) -> Iterator[None]:
        """The block is work of this kind; its time is counted if it succeeds.

        Raises `TooLateError` before the block if it is known to take longer than `work_time_s`;
        None takes any time.
        """
        with self._lock:
            needed_s = self._means_s.get(kind, 0.0)
            if work_time_s is not None and needed_s > work_time_s:
                self._means_s[kind] = needed_s * REFUSAL
                raise TooLateError(too_late(needed_s, work_time_s))
        started_s = time.monotonic()
        yield
        taken_s = time.monotonic() - started_s
        with self._lock:
            mean_s = self._means_s.get(kind, taken_s)
            self._means_s[kind] = mean_s + NEWEST * (taken_s - mean_s)


def size_class(size_image: tuple[int, int]) -> int:
    """Images of (H, W) that take about the same time: those of one power of 2 of pixels."""
    return round(math.log2(size_image[0] * size_image[1]))
