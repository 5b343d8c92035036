"""Which errors are an image's own, and which are the server's that pass.

| error | what it comes to |
|---|---|
| the request breaks a rule, a file cannot be read | the image fails |
| no server answers, it has no room, it heals or ends | the image waits, and all behind it |
| the server fails at it, no answer in time | the image is sent again; fails after `_TRIES` |
| the server lets nobody in, or is of another version | the job ends, nothing is recorded |
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk.errors import NoServerError
from sam_refine_bulk.results import Reason
from sam_refine_client import (
    CancelledError,
    DeadlineError,
    ForbiddenError,
    OverloadedError,
    ProtocolError,
    RefineError,
    RefineResult,
    UnreachableError,
)
from sam_refine_client.many import Job, Outcome

_TRIES: Final = 3
_TOO_LARGE: Final = re.compile("larger than max|message of this size")
"""What gRPC, and the client of a gateway, say of a request that stays too large."""
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 10.0


class Refiner(Protocol):
    """What of a `RefineClient` a job needs."""

    @property
    def refine(self) -> Callable[..., RefineResult]: ...

    def refine_many(self, jobs: Any, *, concurrency: int = ...) -> Any: ...


class ImageFailedError(Exception):
    """An image has no result, and never will as it is."""

    def __init__(self, reason: Reason, error: Exception) -> None:
        super().__init__(str(error))
        self.reason = reason


def result_in_the_end(
    refiner: Refiner,
    job: Job,
    outcome: Outcome[RefineResult],
    wait_s: float,
    waiting: Callable[[str], object],
) -> RefineResult:
    """The result of an outcome, however often the job must be sent again for it.

    `waiting` is told what is waited for. Raises `ImageFailedError`, and `NoServerError` where no
    server has answered for `wait_s` seconds, or it lets nobody in.
    """
    if outcome.result is not None:
        return outcome.result
    error: Exception | None = outcome.error
    tries, pause_s, since_s = 1, _FIRST_WAIT_S, time.monotonic()
    while True:
        assert error is not None
        if isinstance(error, ForbiddenError | ProtocolError):
            raise NoServerError(str(error)) from error
        if isinstance(error, InvalidRequestError | OSError):
            raise ImageFailedError(Reason.INPUT, error) from error
        if passes(error):
            if time.monotonic() - since_s > wait_s:
                raise NoServerError(
                    f"no server for {wait_s:g} s: {error}; the same command goes on later"
                ) from error
            waiting(str(error))
            threading.Event().wait(pause_s * random.uniform(0.5, 1))
            pause_s = min(2 * pause_s, _LONGEST_WAIT_S)
        elif tries >= _TRIES:
            late = isinstance(error, DeadlineError)
            raise ImageFailedError(Reason.TIMEOUT if late else Reason.SERVER, error) from error
        else:
            tries += 1
            since_s = time.monotonic()
        try:
            return refiner.refine(**job)
        except (RefineError, InvalidRequestError, OSError) as raised:
            error = raised


def passes(error: Exception) -> bool:
    """Whether it says nothing about the image: the server is away, busy, or has let go of it."""
    if isinstance(error, OverloadedError):
        return not _TOO_LARGE.search(error.message)
    return isinstance(error, UnreachableError | CancelledError)
