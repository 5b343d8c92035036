"""What opens a server's shared memory: a key that clients of the same user can read.

Triton lets whoever may register shared memory read what others have in theirs. So a server draws a
key at each start, asks for it, and writes it where only its own user can read it:

    $XDG_RUNTIME_DIR/sam-refine/PORT      or, where there is no such folder,
    /tmp/sam-refine-keys-UID/PORT         PORT is that of gRPC
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

SHARED_MEMORY_KEY: Final = "sam-refine-memory-key"
"""The name of Triton's restriction, and of the header over HTTP."""
SHARED_MEMORY_HEADER: Final = f"triton-grpc-protocol-{SHARED_MEMORY_KEY}"
"""The header of a gRPC call."""


def key_folder() -> Path:
    """Where the keys of this user's servers are."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime) / "sam-refine"
    return Path("/tmp") / f"sam-refine-keys-{os.getuid()}"


def read_key(grpc_port: int) -> str | None:
    """The key of a server of the same user on this machine; None where there is none to trust."""
    path = key_folder() / str(grpc_port)
    try:
        if not (is_private(path.parent) and is_private(path)):
            return None
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def is_private(path: Path) -> bool:
    """Whether a folder or file is this user's, no link, and nobody else's to read or change.

    Raises `OSError` where it is not there.
    """
    found = path.lstat()
    is_plain = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
    return is_plain and found.st_uid == os.getuid() and not found.st_mode & 0o077
