"""What was measured on what: a reader must be able to tell two runs apart."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

ROOT: Final = Path(__file__).parents[2]
"""The checkout."""

_DISTRIBUTIONS: Final = (
    "sam-refine",
    "numpy",
    "torch",
    "onnxruntime",
    "onnx",
    "connected-components-3d",
    "segment-anything",
    "nvidia-pytriton",
    "tritonclient",
    "pillow",
)


def available_cores() -> int:
    """Cores that this process may use; every side of every benchmark gets as many threads."""
    return len(os.sched_getaffinity(0))


class CoreTimes(NamedTuple):
    """Seconds so far."""

    wall_s: float
    busy_s: float
    """What all cores worked, added up."""
    own_s: float
    """What this process and its ended children worked."""


def core_times() -> CoreTimes:
    """Of this machine, now."""
    cores = psutil.cpu_times()
    # User time has the guests' in it.
    not_busy = cores.idle + cores.iowait + cores.guest + cores.guest_nice
    return CoreTimes(time.monotonic(), float(sum(cores) - not_busy), sum(os.times()[:4]))


def others_share(start: CoreTimes, end: CoreTimes, cores: int) -> float:
    """Share of the cores that others used between the two, 0 to 1."""
    others_s = (end.busy_s - start.busy_s) - (end.own_s - start.own_s)
    return min(1.0, max(0.0, others_s / (cores * (end.wall_s - start.wall_s))))


def describe() -> dict[str, Any]:
    """Machine, commit and versions, for the JSON."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        "cores": available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": _git("status", "--porcelain") not in ("", None),
        "load_average": os.getloadavg(),
    }


def cpu_model(cpuinfo: str) -> str:
    """The processor's name and its widest vector instructions, from the text of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "")
    return " ".join(filter(None, [fields.get("model name", platform.machine()), vectors]))


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says of the checkout; None where it is none, or there is no git."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
