"""What a model instance tells the supervisor of its server: that it lives, and since when it works.

An instance that runs in a Python stub keeps a file of 16 bytes, named by its process:

    <run directory>/instances/PID      two float64: the last beat; since when it answers, or 0

Both are seconds of `time.monotonic`, which all processes of a machine share. What an instance
has to say of itself stands beside it, in PID.warning.

A process that stood still for a second, as where the machine did or another had its cores, Triton
takes for dead: it answers the request in its stead, and takes what comes later for the answer to
the next one, of another caller. So an instance that has stood still ends itself instead.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

from sam_refine.contract.serving.run_directory import INSTANCES
from sam_refine.contract.serving.supervised import end_this_process

BEAT_INTERVAL_S: Final = 0.1
_STILL_S: Final = 0.9
"""Triton looks after stubs each second."""
_RECENT_S: Final = 2.0
"""What was sent to a process that stood still it takes up as soon as it goes on."""
_SCHEDULED: Final = Path("/proc/self/schedstat")
_LAYOUT: Final = struct.Struct("<dd")


@dataclass(frozen=True)
class _Clocks:
    """Seconds."""

    steady_s: float
    """Does not go on while a machine sleeps."""
    wall_s: float
    """Does, and may be set; it is what Triton waits by."""
    busy_s: float
    """That the thread which answers had a processor, or waited for one."""

    @classmethod
    def now(cls) -> _Clocks:
        return cls(time.monotonic(), time.time(), _busy_s())


def _busy_s() -> float:
    """Of the first thread, in which Triton's stub calls a model."""
    try:
        had_ns, waited_ns, _ = _SCHEDULED.read_text(encoding="ascii").split()
    except (OSError, ValueError):  # a kernel that does not say
        return time.process_time()
    return (int(had_ns) + int(waited_ns)) / 1e9


class Heartbeat:
    """Beats from a thread of its own: a process that is stopped or stuck in its C code does not."""

    def __init__(self, directory: Path | None, warning: str | None = None) -> None:
        """Begin to beat in a run directory; None, or a directory that is gone, beats nowhere.

        `warning` is one sentence for who operates the server.
        """
        self._ended = Event()
        self._lock = Lock()
        self._looked = _Clocks.now()
        self._stood_still_s = -math.inf
        self._file: mmap.mmap | None = None
        if directory is None:
            return
        try:
            self._path = directory / INSTANCES / str(os.getpid())
            _warning_file(directory, os.getpid()).unlink(missing_ok=True)
            if warning is not None:
                _warning_file(directory, os.getpid()).write_text(warning, encoding="utf-8")
            self._path.write_bytes(bytes(_LAYOUT.size))
            with self._path.open("r+b") as file:
                self._file = mmap.mmap(file.fileno(), _LAYOUT.size)
        except OSError:
            return
        self._since_s = 0.0
        self._write()
        Thread(target=self._beat, name="heartbeat", daemon=True).start()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Inside the block this instance is at work. Ends the process where it stood still."""
        self._since_s = begun_s = time.monotonic()
        self._write()
        self._end_if_stood_still(begun_s)
        try:
            yield
        finally:
            self._end_if_stood_still(begun_s)
            self._since_s = 0.0
            self._write()

    def end(self) -> None:
        """Beat no more; nobody is to miss this instance."""
        self._ended.set()
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            _warning_file(self._path.parent.parent, os.getpid()).unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_INTERVAL_S):
            self._look()
            self._write()

    def _end_if_stood_still(self, begun_s: float) -> None:
        if self._file is not None and self._look() > begun_s - _RECENT_S:
            end_this_process("it stood still, and Triton may have given its answer up")

    def _look(self) -> float:
        """When this process, which looks all the time, last went on after it had stood still.

        One that did not look because it computed, or waited for its turn, did not stand still.
        """
        with self._lock:
            now, looked = _Clocks.now(), self._looked
            unseen_s = max(now.steady_s - looked.steady_s, now.wall_s - looked.wall_s)
            if unseen_s > _STILL_S and now.busy_s - looked.busy_s < unseen_s / 4:
                self._stood_still_s = now.steady_s
            self._looked = now
            return self._stood_still_s

    def _write(self) -> None:
        if self._file is not None:
            self._file[:] = _LAYOUT.pack(time.monotonic(), self._since_s)


@dataclass(frozen=True)
class Beat:
    """What an instance has told last, as times of `time.monotonic`."""

    at_s: float
    answering_since_s: float | None


def read_beat(directory: Path, process_id: int) -> Beat | None:
    """The last beat of a process; None where it tells nothing."""
    try:
        at_s, since_s = _LAYOUT.unpack((directory / INSTANCES / str(process_id)).read_bytes())
    except (OSError, struct.error):
        return None
    return Beat(at_s, since_s or None) if at_s > 0 else None


def read_warning(directory: Path, process_id: int) -> str | None:
    """What an instance has said of itself; None where it has nothing to say."""
    try:
        file = _warning_file(directory, process_id)
        return file.read_text(encoding="utf-8", errors="replace") or None
    except OSError:
        return None


def _warning_file(directory: Path, process_id: int) -> Path:
    return directory / INSTANCES / f"{process_id}.warning"
