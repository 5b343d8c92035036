"""The Python stubs of a running server: Triton runs every instance of a Python model in one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import psutil

STUB_PROGRAM: Final = "triton_python_backend_stub"
UNKNOWN_MODEL: Final = "a model"
"""Of a process that died before anybody could ask it for its name."""
SERVER_POINTS: Final = 50
STUB_POINTS: Final = 500
"""A stub goes before tritonserver, though that maps what all stubs have in shared memory, and after
whatever else takes more than half of the memory."""
_MOST_POINTS: Final = 1000
_EXIT_CODE: Final = 49
"""Its place in /proc/PID/stat, from the state on."""
_UNNOTICED_S: Final = 3.0
"""A stub that Triton itself has ended is waited for within milliseconds, on a busy machine too."""


class ProcessState(Enum):
    """What the kernel says of a process."""

    RUNS = "runs"
    STOPPED = "stopped"
    """By a signal or a debugger: it would go on if it were told to."""
    ENDED = "ended"


@dataclass(frozen=True)
class Stub:
    """A process that runs one instance of a model."""

    process_id: int
    model: str
    instance: str
    """Triton's name of the instance, such as sam_refine_0_1."""
    region: str = ""
    """The name of what it has in /dev/shm."""


def stubs_of(server_process_id: int) -> list[Stub]:
    """The stubs that live now."""
    children = _children(server_process_id)
    return [stub for child in children if (stub := _stub(child)) is not None]


def process_state(process_id: int) -> ProcessState:
    """Of a child or a child's child; one that has ended is a zombie until its parent looks."""
    letter = _state_letter(process_id)
    if letter in ("", "Z", "X"):
        return ProcessState.ENDED
    return ProcessState.STOPPED if letter in "Tt" else ProcessState.RUNS


def has_failed(process_id: int) -> bool:
    """Whether a process was ended by a signal or an error, and its parent has not looked yet."""
    fields = _stat(process_id)
    return bool(fields) and fields[0] in "ZX" and fields[_EXIT_CODE] != "0"


class Newborns:
    """Processes that a server is starting: one that is stopped is told to go on, one that has died
    is named.

    Triton waits for both without an end, and answers nothing about their models meanwhile. A
    process that Triton itself has ended is waited for by it, and so gone at once.
    """

    def __init__(self, server_process_id: int) -> None:
        self._server_process_id = server_process_id
        self._seen: dict[int, Stub] = {}
        self._dead_since_s: dict[int, float] = {}

    def tend(self, known: Collection[int] = ()) -> str | None:
        """Look at all processes but the `known` ones. Returns the model of one that has died."""
        now_s = time.monotonic()
        for child in _children(self._server_process_id):
            if child.pid in known:
                continue
            wake(child.pid)
            if _state_letter(child.pid) != "Z":
                self._dead_since_s.pop(child.pid, None)
                if (stub := _stub(child)) is not None:
                    self._seen[child.pid] = stub
                continue
            stub = self._seen.setdefault(child.pid, Stub(child.pid, UNKNOWN_MODEL, ""))
            if now_s - self._dead_since_s.setdefault(child.pid, now_s) > _UNNOTICED_S:
                return stub.model
        return None

    def born(self) -> list[Stub]:
        """Those that Triton has started and not ended, among them such as have died since."""
        children = {child.pid for child in _children(self._server_process_id)}
        return [stub for process_id, stub in self._seen.items() if process_id in children]


def wake(process_id: int) -> None:
    """Tell a process that is stopped to go on."""
    if process_state(process_id) is ProcessState.STOPPED:
        send(process_id, signal.SIGCONT)


def send(process_id: int, number: signal.Signals) -> None:
    """Send a signal to a process, if there still is one."""
    with suppress(ProcessLookupError):
        os.kill(process_id, number)


def end_sooner(process_id: int, points: int) -> None:
    """Where memory is short, let the kernel end a process sooner than this one.

    `points`: thousandths of all memory that it then seems to take on top. What a process may not be
    given it goes without.
    """
    with suppress(OSError):
        own = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
        path = Path(f"/proc/{process_id}/oom_score_adj")
        path.write_text(str(min(own + points, _MOST_POINTS)), encoding="ascii")


def _children(process_id: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(psutil.Process(process_id).children())
    return []


def _state_letter(process_id: int) -> str:
    """As in /proc: "Z" for a zombie; empty where there is no such process."""
    fields = _stat(process_id)
    return fields[0] if fields else ""


def _stat(process_id: int) -> list[str]:
    """/proc/PID/stat from the state on, its third field; empty where there is no such process.

    Raises `OSError` where that cannot be told, as for want of file descriptors.
    """
    try:
        text = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _stub(process: psutil.Process) -> Stub | None:
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    if len(words) < 4 or Path(words[0]).name != STUB_PROGRAM:
        return None
    # Triton's order: program, REPOSITORY/MODEL/VERSION/FILE, region, ..., name of the instance,
    # backend
    parts = Path(words[1]).parts
    if len(parts) < 3:
        return None
    return Stub(process.pid, parts[-3], words[-2], words[2].lstrip("/"))
