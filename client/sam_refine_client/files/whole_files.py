"""Files are never half written: each is written under another name, and renamed at the end."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO


def write_whole(files: Mapping[Path, bytes | Callable[[BinaryIO], object]]) -> None:
    """Write each file, by its content or by what writes it; an existing one is replaced.

    If writing any of them fails or is interrupted, all stay as they were. Their directories must
    exist. Raises `OSError`.
    """
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a directory has the name of the file", str(path))
    written: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            temporary = path.with_name(f".sam_refine-{uuid.uuid4().hex}.part")
            written[path] = temporary
            with temporary.open("xb") as file:
                file.write(content) if isinstance(content, bytes) else content(file)
        for path, temporary in written.items():
            temporary.replace(path)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
