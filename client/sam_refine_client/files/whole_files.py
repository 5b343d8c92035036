"""Files that are whole or not there: written beside their names, and renamed when all is well."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO


def write_whole(files: Mapping[Path, Callable[[BinaryIO], object]]) -> None:
    """Write each file; one that is there is replaced.

    Where writing any of them fails or is interrupted, all stay as they were. Directories must be
    there. Raises `OSError`.
    """
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a directory is where a file goes", str(path))
    written: dict[Path, Path] = {}
    try:
        for path, write in files.items():
            temporary = path.with_name(f".sam_refine-{uuid.uuid4().hex}.part")
            written[path] = temporary
            with temporary.open("xb") as file:
                write(file)
        for path, temporary in written.items():
            temporary.replace(path)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
