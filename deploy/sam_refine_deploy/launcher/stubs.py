"""The Python stubs of a running server: Triton runs every instance of a Python model in one."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import psutil

STUB_PROGRAM: Final = "triton_python_backend_stub"


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


def stubs_of(server_process_id: int) -> list[Stub]:
    """The stubs that live now."""
    try:
        children = psutil.Process(server_process_id).children()
    except psutil.Error:
        return []
    return [stub for child in children if (stub := _stub(child)) is not None]


def process_state(process_id: int) -> ProcessState:
    """Of a child or a child's child; one that has ended is a zombie until its parent looks."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ProcessState.ENDED
    letter = text.rpartition(")")[2].split()[0]
    if letter in "ZX":
        return ProcessState.ENDED
    return ProcessState.STOPPED if letter in "Tt" else ProcessState.RUNS


def send(process_id: int, number: signal.Signals) -> None:
    """Send a signal to a process, if there still is one."""
    with suppress(ProcessLookupError):
        os.kill(process_id, number)


def _stub(process: psutil.Process) -> Stub | None:
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    if len(words) < 4 or Path(words[0]).name != STUB_PROGRAM:
        return None
    # Triton's order: program, REPOSITORY/MODEL/VERSION/FILE, ..., name of the instance, backend
    parts = Path(words[1]).parts
    return Stub(process.pid, parts[-3], words[-2]) if len(parts) >= 3 else None
