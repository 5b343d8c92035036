"""Waiting for what other threads do, so that Ctrl-C ends it.

Python looks for signals between two steps of the main thread. One that comes just before a wait, or
to another thread, is seen when the wait is over: no wait is longer than a moment.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Event
from typing import Final, TypeVar

T = TypeVar("T")

SIGNAL_POLL_S: Final = 0.2


def first_done(futures: Collection[Future[T]]) -> Future[T]:
    """Wait for one of some futures, at least one; the first in their order if several are done."""
    while True:
        done, _ = wait(futures, timeout=SIGNAL_POLL_S, return_when=FIRST_COMPLETED)
        for future in futures:
            if future in done:
                return future


def wait_for(event: Event, seconds: float) -> bool:
    """Wait until an event is set, at most so long; whether it is."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        if event.wait(min(left_s, SIGNAL_POLL_S)):
            return True
    return event.is_set()
