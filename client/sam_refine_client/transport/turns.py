"""How a call's deadline is divided: so long in the server's queue, the rest for the work.

See `sam_refine.contract.serving.turns` for what the server does with it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sam_refine.contract import SAM_REFINE
from sam_refine.contract.serving.turns import PATIENT, URGENT, WORK_TIME_S
from sam_refine_client.transport.call import Call

SMALL_BYTES: Final = 4 * 2**20
"""A call that sends less is begun before larger ones."""
_PACKED: Final = 10
"""An encoded image counts as so many times its bytes."""
_PATIENCE_S: Final = 30.0
"""A call without a deadline becomes urgent after so long."""
_LEAST_WAIT_S: Final = 0.05
_FORGET_S: Final = 60.0
"""How long it is remembered what a server has said of the time it needs."""


@dataclass(frozen=True)
class Turn:
    """How one attempt of a call waits in the queue."""

    priority: int | None = None
    wait_s: float | None = None
    """How long it may wait; None waits for ever."""
    work_time_s: float | None = None
    """What is left for the work then."""

    def arguments(self) -> dict[str, Any]:
        """For `infer` of Triton's client."""
        timeout = None if self.wait_s is None else max(1, round(self.wait_s * 1e6))
        arguments = {"priority": self.priority, "timeout": timeout}
        return {name: value for name, value in arguments.items() if value is not None}

    def parameters(self) -> dict[str, float]:
        """For the request's parameters."""
        return {} if self.work_time_s is None else {WORK_TIME_S: self.work_time_s}


class Turns:
    """The turns of one client's calls; learns from refusals how long the work takes."""

    def __init__(self) -> None:
        self._needed: dict[int, tuple[float, float]] = {}
        """Seconds, and when that was said, for each power of 2 of bytes sent."""

    def of(self, call: Call) -> Turn:
        """The turn of an attempt that begins now; raises `DeadlineError` where no time is left."""
        if call.model is not SAM_REFINE:
            return Turn()
        remaining_s = call.remaining_s()
        waited_s = time.monotonic() - call.begun_s
        is_late = waited_s > (_PATIENCE_S if remaining_s is None else remaining_s)
        priority = URGENT if is_late or _bytes(call) < SMALL_BYTES else PATIENT
        if remaining_s is None:
            return Turn(priority)
        said_s, at_s = self._needed.get(_bytes(call).bit_length(), (0.0, 0.0))
        is_known = said_s > 0 and time.monotonic() < at_s + _FORGET_S
        wait_s = remaining_s - said_s if is_known else remaining_s / 2
        wait_s = min(max(wait_s, _LEAST_WAIT_S), remaining_s)
        return Turn(priority, wait_s, max(remaining_s - wait_s, 0.0))

    def learn(self, call: Call, needed_s: float) -> None:
        """The server says that work such as this call's takes so long."""
        self._needed[_bytes(call).bit_length()] = needed_s, time.monotonic()

    def is_too_late(self, call: Call, needed_s: float) -> bool:
        """Whether the work would not be done in time even if it began at once."""
        return call.is_over_in(needed_s + _LEAST_WAIT_S)


def _bytes(call: Call) -> int:
    """What a call weighs: work, memory and time on the way grow with it."""
    return sum(
        sum(_PACKED * len(item) for item in array.flat)
        if array.dtype == np.object_
        else array.nbytes
        for array in call.tensors.values()
    )
