"""M_free: the memory that decides how many prompts go to the decoder at once."""

from __future__ import annotations

import psutil


def free_memory_bytes() -> int:
    """Free bytes of the device that decodes: of the first NVIDIA GPU, else of the system.

    A GPU is seen where the package nvidia-ml-py (extra `gpu`) is installed and finds one.
    """
    try:
        import pynvml
    except ImportError:
        return int(psutil.virtual_memory().available)
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).free)
    except pynvml.NVMLError:
        return int(psutil.virtual_memory().available)
