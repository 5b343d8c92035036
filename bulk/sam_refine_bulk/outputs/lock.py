"""One worker for a shard. The lock is the kernel's: it ends with whoever holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam_refine_bulk.errors import OutputError


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock inside the block; False where another process holds it. Never waits.

    Raises `OutputError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds it now."""
    if not path.exists():
        return False
    with locked(path) as is_mine:
        return not is_mine
