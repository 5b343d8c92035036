"""When a call must be over, as a time of `time.monotonic`; None for never."""

from __future__ import annotations

import time
from typing import Final

from sam_refine.contract import InvalidRequestError
from sam_refine_client.errors import DeadlineError

_LONGEST_TIMEOUT_S: Final = 1e8
"""gRPC takes a far longer timeout, or an infinite one, for a deadline that has passed."""


def deadline_after(timeout_s: float | None) -> float | None:
    """The deadline of a call that begins now. Raises `InvalidRequestError`."""
    if timeout_s is None:
        return None
    if not isinstance(timeout_s, int | float) or not timeout_s > 0:
        raise InvalidRequestError(f"timeout_s must be > 0, got {timeout_s!r}")
    return time.monotonic() + timeout_s


def remaining_s(deadline_s: float | None) -> float | None:
    """Seconds left, as gRPC takes them. Raises `DeadlineError` if there are none."""
    if deadline_s is None:
        return None
    remaining = deadline_s - time.monotonic()
    if remaining <= 0:
        raise DeadlineError("the deadline passed")
    return min(remaining, _LONGEST_TIMEOUT_S)
