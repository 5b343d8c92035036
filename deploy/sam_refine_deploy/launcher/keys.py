"""The keys of one run: drawn at its start, and kept from everybody but this user.

Triton takes them on its command line only, which all users of a machine can read. So they are
wiped out of it as soon as the server has read them.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sam_refine.contract.serving.keys import is_private, key_folder
from sam_refine_deploy.errors import ServeError

logger = logging.getLogger(__name__)

_ARGUMENTS_FIELD: Final = 48
"""Of /proc/PID/stat, from 1: where the arguments begin in memory; the next has where they end."""


def new_key() -> str:
    """A key that nobody guesses."""
    return secrets.token_urlsafe(24)


@contextmanager
def published(key: str, grpc_port: int) -> Iterator[None]:
    """Let clients of this user read a key, for the length of the block. Raises `ServeError`."""
    folder = key_folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not is_private(folder):
            raise ServeError(f"{folder} must belong to this user alone (mode 0700); remove it")
        path = folder / str(grpc_port)
        new = folder / f".{grpc_port}-{os.getpid()}"
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(key, encoding="ascii")
        new.replace(path)
    except OSError as error:
        raise ServeError(f"the key of shared memory cannot be written: {error}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text(encoding="ascii") == key:  # not that of a server after this one
                path.unlink()


def wipe_from_arguments(process_id: int, keys: tuple[str, ...]) -> None:
    """Overwrite keys in what other users see of a process's command line."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
        after_name = stat.rpartition(")")[2].split()  # from the third field on
        start, end = map(int, after_name[_ARGUMENTS_FIELD - 3 : _ARGUMENTS_FIELD - 1])
        with Path(f"/proc/{process_id}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            for key in keys:
                arguments = arguments.replace(key.encode(), b"*" * len(key))
            memory.seek(start)
            memory.write(arguments)
    except (OSError, ValueError) as error:
        logger.warning(
            "other users of this machine can read the server's keys in its arguments: %s", error
        )
