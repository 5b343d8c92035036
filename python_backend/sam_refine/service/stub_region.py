"""A Triton stub's region of /dev/shm, in which it is handed tensors. It grows, and never shrinks.

All regions of one server have names that begin alike and end with a UUID; a stub's arguments name
its own.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from sam_refine.contract.serving.run_directory import SHARED_MEMORY

_UUID_LENGTH: Final = 36


def own_region(arguments: Path = Path("/proc/self/cmdline")) -> str:
    """The name of this process's region; "" where it is no stub of Triton's."""
    try:
        words = arguments.read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return ""
    names = (word.lstrip("/") for word in words)
    return next((name for name in names if _is_region(name)), "")


def region_bytes(name: str) -> int:
    """The size of a region; 0 where there is none."""
    try:
        return (SHARED_MEMORY / name).stat().st_size if name else 0
    except OSError:
        return 0


def sibling_bytes(name: str, others: Collection[str]) -> int:
    """The size of all regions of a region's server but itself and the `others`."""
    if not name:
        return 0
    siblings = {path.name for path in SHARED_MEMORY.glob(f"{name[:-_UUID_LENGTH]}*")}
    return sum(map(region_bytes, siblings - {name, *others}))


def _is_region(name: str) -> bool:
    is_long = len(name) > _UUID_LENGTH and "/" not in name
    return is_long and (SHARED_MEMORY / name).is_file()
