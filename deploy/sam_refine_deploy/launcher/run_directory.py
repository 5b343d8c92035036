"""A private folder for one run of a server; and the end of what killed runs have left.

    sam-refine-PID-NAME/     mode 0700, in the folder for temporary files
        owner.lock           locked for as long as the run's owner lives
        backends/            for --backend-directory
        empty/               the server's working directory
        instances/           a heartbeat of every Python stub
        embeddings/          kept by `sam_refine`
        budget/              what its requests in flight have reserved
        models/              the repository, where its own path will not do

The kernel frees the lock of an owner that has ended, whatever ended it. So a start knows which
folders are nobody's any more, and removes them with their stubs and their shared memory.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from sam_refine.contract.serving.run_directory import SHARED_MEMORY
from sam_refine_deploy.errors import ServeError
from sam_refine_deploy.launcher.stubs import STUB_PROGRAM

logger = logging.getLogger(__name__)

_PREFIX: Final = "sam-refine-"
OWNER_LOCK: Final = "owner.lock"
_KILL_S: Final = 5.0
_PROGRAMS: Final = frozenset({"tritonserver", STUB_PROGRAM})
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_./+@%=,:-]+")


@dataclass(frozen=True)
class RunDirectory:
    """The folder of a run that is under way."""

    path: Path

    @property
    def shared_memory_prefix(self) -> str:
        """How all names of the run's shared memory begin."""
        return _shared_memory_prefix(self.path)

    def shared_memory(self) -> dict[str, int]:
        """The run's shared memory: bytes by name."""
        found = {}
        for region in _regions(self.path):
            with suppress(FileNotFoundError):
                found[region.name] = region.stat().st_size
        return found


@contextmanager
def run_directory() -> Iterator[RunDirectory]:
    """A new folder, removed at the end of the block with the shared memory of its run.

    Removes what killed runs of the same user have left. Raises `ServeError` where there is no place
    whose path Triton can use.
    """
    base = _base()
    remove_leftovers(base)
    path = base / f"{_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:12]}"
    hidden = path.with_name(f".{path.name}")  # nobody sees it before it is locked
    hidden.mkdir(mode=0o700)
    with (hidden / OWNER_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        hidden.rename(path)
        try:
            yield RunDirectory(path)
        finally:
            _remove(path)


def is_plain(path: Path) -> bool:
    """Whether Triton can use a path: its Python backend hands it to a shell, unquoted."""
    return _PLAIN_PATH.fullmatch(str(path)) is not None


def remove_leftovers(base: Path) -> None:
    """Remove the folders in `base` whose owners have ended, with their processes and memory."""
    for path in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                _remove_if_nobody_s(path)


def _remove_if_nobody_s(path: Path) -> None:
    with (path / OWNER_LOCK).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner lives
        logger.info("removing what a run that was killed has left: %s", path)
        _kill_processes(path)
        _remove(path)


def _kill_processes(path: Path) -> None:
    """The run's server and stubs: their command lines name its folder or its shared memory."""
    marks = str(path), _shared_memory_prefix(path)
    killed = []
    for process in psutil.process_iter(["uids", "cmdline"]):
        uids, words = process.info["uids"], process.info["cmdline"] or []
        is_ours = uids is not None and uids.real == os.getuid()
        is_triton = bool(words) and Path(words[0]).name in _PROGRAMS
        if is_ours and is_triton and any(mark in word for word in words for mark in marks):
            with suppress(psutil.Error):
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=_KILL_S)


def _remove(path: Path) -> None:
    with suppress(OSError):  # of what cannot be removed now the next start removes the rest
        for region in _regions(path):
            region.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _regions(path: Path) -> Iterator[Path]:
    return SHARED_MEMORY.glob(f"{_shared_memory_prefix(path)}*")


def _shared_memory_prefix(path: Path) -> str:
    return f"{path.name.replace('-', '_')}_"


def _base() -> Path:
    """The folder for temporary files, or /tmp where its path will not do."""
    configured = Path(tempfile.gettempdir())
    for base in (configured, Path("/tmp")):
        if is_plain(base) and os.access(base, os.W_OK | os.X_OK):
            return base
    raise ServeError(
        f"the folder for temporary files must have a path of letters, digits and _./+@%=,:- and "
        f"allow writing, got {str(configured)!r}; set TMPDIR"
    )
