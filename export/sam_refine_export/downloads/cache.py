"""Where downloads are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "SAM_REFINE_CACHE"


def cache_directory() -> Path:
    """`$SAM_REFINE_CACHE` if it is set, else the user's cache directory."""
    import platformdirs  # here, so that the package imports without its extra

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_cache_path("sam-refine")
