"""What was measured on what: a reader must be able to tell two runs apart."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

ROOT: Final = Path(__file__).parents[3]
"""The checkout."""

MOST_OTHERS: Final = 0.1
"""Share of the cores that other processes may use while something is timed."""
_GRAIN_S: Final = 0.05
"""The system counts the time of each core in steps of 0.01 s."""
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
    """What this process and its children worked."""


def core_times() -> CoreTimes:
    """Of this machine, now."""
    cores = psutil.cpu_times()
    # User time has the guests' in it.
    not_busy = cores.idle + cores.iowait + cores.guest + cores.guest_nice
    own_s = 0.0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # its time went over to its parent
            own_s += sum(process.cpu_times()[:4])  # with the children that have ended
    return CoreTimes(time.monotonic(), float(sum(cores) - not_busy), own_s)


def others_share(start: CoreTimes, end: CoreTimes, cores: int) -> float:
    """Share of the cores that others used between the two, 0 to 1."""
    return min(1.0, max(0.0, _others_s(start, end) / (cores * (end.wall_s - start.wall_s))))


def is_disturbed(start: CoreTimes, end: CoreTimes, cores: int) -> bool:
    """Whether others used so much between the two that times then are not to be trusted."""
    allowed_s = MOST_OTHERS * cores * (end.wall_s - start.wall_s)
    return _others_s(start, end) > allowed_s + _GRAIN_S


def watch_others() -> Callable[[], bool]:
    """Watch from now on; the answer tells whether others disturbed since."""
    start = core_times()
    return lambda: is_disturbed(start, core_times(), psutil.cpu_count())


def _others_s(start: CoreTimes, end: CoreTimes) -> float:
    return (end.busy_s - start.busy_s) - (end.own_s - start.own_s)


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
