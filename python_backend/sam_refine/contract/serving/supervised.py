"""Processes of a server that somebody watches over: one that ends is replaced."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

SUPERVISED: Final = "SAM_REFINE_SUPERVISED"
"""The environment variable that says so."""


def end_this_process(why: str) -> None:
    """Where another one will take its place: nothing that this one answers can be trusted."""
    if os.environ.get(SUPERVISED):
        print(f"process {os.getpid()} ends itself: {why}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
