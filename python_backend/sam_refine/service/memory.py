"""M_free, which decides how many prompts go to the decoder at once, and memory for the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import psutil

from sam_refine.contract.serving.run_directory import SHARED_MEMORY

_UNLIMITED: Final = 2**60
"""What version 1 of cgroups says where there is no limit lies above."""


@dataclass(frozen=True)
class Memory:
    """What a process may take: of the system, or of the container (cgroup) that it is in."""

    total_bytes: int
    free_bytes: int


def free_memory_bytes() -> int:
    """Free bytes of the device that decodes: of the first NVIDIA GPU, else of the system.

    A GPU is seen where the package nvidia-ml-py (extra `gpu`) is installed and finds one.
    """
    try:
        import pynvml
    except ImportError:
        return system_memory().free_bytes
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).free)
    except pynvml.NVMLError:
        return system_memory().free_bytes


def system_memory(root: Path = Path("/")) -> Memory:
    """The least of the system's and of every cgroup's around this process; `root` is for tests."""
    system = psutil.virtual_memory()
    limits = [Memory(int(system.total), int(system.available))]
    for directory in _cgroups(root):
        limit = _of_cgroup(directory)
        if limit is not None:
            limits.append(limit)
    return Memory(
        min(limit.total_bytes for limit in limits), min(limit.free_bytes for limit in limits)
    )


def shared_memory() -> Memory | None:
    """/dev/shm, through which each tensor of a Python model goes; None without one."""
    try:
        size = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return Memory(size.f_frsize * size.f_blocks, size.f_frsize * size.f_bavail)


def _cgroups(root: Path) -> list[Path]:
    """The directories of this process's cgroups that count memory, and of those around them.

    In a container they may be mounted as the root, whatever /proc says that their path is.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    directories = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        inside = PurePosixPath(path.lstrip("/"))
        directories += [mount / part for part in (inside, *inside.parents)]
    return directories


def _of_cgroup(directory: Path) -> Memory | None:
    """The limit of one cgroup, of either version; None where it has none."""
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            total = int((directory / limit).read_text(encoding="ascii"))
            used = int((directory / usage).read_text(encoding="ascii"))
            rows = (directory / "memory.stat").read_text(encoding="ascii").splitlines()
            given_back = int(dict(row.split(None, 1) for row in rows).get(cache, 0))
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if total < _UNLIMITED:
            return Memory(total, max(0, total - used + given_back))
    return None
