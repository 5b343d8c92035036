"""Processes of a server that somebody watches over: one that ends is replaced."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

SUPERVISED: Final = "SAM_REFINE_SUPERVISED"
"""The environment variable that says so."""


def is_supervised() -> bool:
    """Whether somebody heals the models of the server that this process belongs to."""
    return bool(os.environ.get(SUPERVISED))


def end_this_process(why: str) -> None:
    """Where another one will take its place: nothing that this one answers can be trusted."""
    if is_supervised():
        print(f"process {os.getpid()} ends itself: {why}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
