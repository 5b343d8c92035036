"""The private folder of one run of a server, as its processes know it, and what they share.

The environment names it; a server that another program has started has none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

RUN_DIRECTORY: Final = "SAM_REFINE_RUN_DIRECTORY"
"""The environment variable."""
INSTANCES: Final = "instances"
"""Folder of the heartbeats."""
EMBEDDINGS: Final = "embeddings"
"""Folder of the embeddings that are kept."""
BUDGET: Final = "budget"
"""Folder of what the requests in flight have reserved."""
SHARED_MEMORY: Final = Path("/dev/shm")
"""Where regions of shared memory are files."""


def run_directory() -> Path | None:
    """The run directory of the server that this process belongs to, if it has one."""
    named = os.environ.get(RUN_DIRECTORY)
    return Path(named) if named else None
