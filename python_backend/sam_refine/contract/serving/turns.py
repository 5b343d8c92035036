"""How a call waits for its turn at a server, and what is left for the work itself.

Triton queues calls of a model and knows two parameters of a request: `timeout`, the microseconds
that it may wait in the queue, and `priority`, 1 before 2. What Triton does not know is how long the
work takes once it has begun. So a caller with a deadline divides it: `timeout` for the queue, and
the rest, as `WORK_TIME_S`, for the work. A call of which this server knows that it takes longer is
refused before the work, with the time that it needs.
"""

from __future__ import annotations

import re
from typing import Final

WORK_TIME_S: Final = "work_time_s"
"""Request parameter: seconds that the work may take once it has begun; above 0."""
URGENT: Final = 1
PATIENT: Final = 2
"""Triton's priorities: a call of the first is begun before all of the second."""

_NEEDED: Final = re.compile(r"the work takes about (\d+\.\d{3}) s, but ")
_FULL: Final = (
    "Exceeds maximum queue size",
    "Request timeout expired",  # it has waited as long as it may
)


def too_late(needed_s: float, work_time_s: float) -> str:
    """What a server answers to a call that it cannot finish in time."""
    return f"the work takes about {needed_s:.3f} s, but {WORK_TIME_S} leaves {work_time_s:.3f} s"


def needed_s(text: str | None) -> float | None:
    """The seconds that the work needs, where `text` is a refusal by `too_late`."""
    found = _NEEDED.search(text or "")
    return float(found[1]) if found else None


def is_busy(text: str) -> bool:
    """Whether a text of Triton's means that the queue is full, or that a call's wait is over."""
    return any(part in text for part in _FULL)
