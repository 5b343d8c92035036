"""One worker for a shard. The lock is the kernel's: it ends with whoever holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sam_refine_bulk.errors import OutputError

_PAUSE_S: Final = 0.01
"""`is_locked` holds a lock for much less."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock inside the block; False where another process holds it. Never waits for it.

    Raises `OutputError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error}") from error
    try:
        is_mine = _take(descriptor, fcntl.LOCK_EX)
        if not is_mine:  # it may be that somebody only asks
            time.sleep(_PAUSE_S)
            is_mine = _take(descriptor, fcntl.LOCK_EX)
        yield is_mine
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds it now. Writes nothing, so that who may only read can ask."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
