"""The command `sam-refine` as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SAM_REFINE = Path(sys.executable).parent / "sam-refine"


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [SAM_REFINE, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Run it beside the test, where Ctrl-C reaches it."""
    return subprocess.Popen(
        [SAM_REFINE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def one_line(stderr: str) -> str:
    """The error that a command printed, which is all that it printed."""
    (line,) = stderr.splitlines()
    prefix, _, message = line.partition(": ")
    assert prefix == "sam-refine", line
    return message
