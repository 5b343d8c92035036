"""Whether ONNX Runtime uses the GPU that a machine has, and why it does not.

ONNX Runtime itself says nothing to a program: where CUDA cannot start, a session computes on the
CPU. The package `onnxruntime` has no CUDA, `onnxruntime-gpu` has it, and both write the same files:
of two that are installed the one that came last is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

CUDA: Final = "CUDAExecutionProvider"
GPU_PROVIDERS: Final = frozenset({CUDA, "TensorrtExecutionProvider"})
_INSTALL: Final = "pip install 'sam-refine[gpu]' in an environment of its own"


def has_gpu(root: Path = Path("/")) -> bool:
    """Whether this process sees an NVIDIA GPU, by device file or, in Linux on Windows, by driver.

    One that `CUDA_VISIBLE_DEVICES` hides is not there. `root` is for tests.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    windows = root / "dev/dxg", root / "usr/lib/wsl/lib/libcuda.so.1"
    return any((root / "dev").glob("nvidia[0-9]*")) or all(path.exists() for path in windows)


def load_cuda_libraries(onnxruntime: Any) -> None:
    """Let the module onnxruntime find CUDA's libraries where they were installed as packages.

    What it prints about those that are not there goes to stderr. Releases before 1.21 cannot.
    """
    with redirect_stdout(sys.stderr):
        getattr(onnxruntime, "preload_dlls", lambda: None)()


def why_not_on_gpu(
    used: Collection[str], available: Collection[str], *, is_here: bool | None = None
) -> str | None:
    """Why a session leaves a GPU idle, and what to do about it; None where it does not.

    `used` are the session's execution providers, `available` those of the onnxruntime that was
    imported. `is_here` is whether there is a GPU; None looks for one.
    """
    is_here = has_gpu() if is_here is None else is_here
    if not is_here or GPU_PROVIDERS.intersection(used):
        return None
    if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
        return (
            "there is a GPU, but onnxruntime and onnxruntime-gpu are both installed and overwrite "
            "each other: pip uninstall both, then install onnxruntime-gpu alone"
        )
    if CUDA not in available:
        return f"there is a GPU, but this onnxruntime has no CUDA: {_INSTALL}"
    return (
        "there is a GPU, but CUDA did not start: are NVIDIA's driver and the CUDA libraries there "
        f"that this onnxruntime-gpu wants ({_INSTALL})?"
    )


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
