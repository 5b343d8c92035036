"""Tars of results: the same results are the same bytes, whoever writes them and when."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

END: Final = bytes(2 * 512)
"""What ends a tar."""
LABELS: Final = "labels.png"
FACTS: Final = "json"


def members(key: str, labels_png: bytes, facts: Mapping[str, Any]) -> bytes:
    """KEY.labels.png and KEY.json as they stand in a tar."""
    text = (json.dumps(facts, sort_keys=True) + "\n").encode("ascii")
    return _member(f"{key}.{LABELS}", labels_png) + _member(f"{key}.{FACTS}", text)


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(content))
        end = tar.offset
    return file.getvalue()[:end]


def payload(path: Path, size: int) -> Iterator[bytes]:
    """The members of a tar without its end: its first `size` bytes."""
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, 1 << 20))):
            size -= len(chunk)
            yield chunk


def keys_of(path: Path) -> list[str]:
    """The keys of the results in a tar, once for each; raises `tarfile.TarError`, `OSError`."""
    with tarfile.open(path, "r:") as tar:
        return list(_keys(info.name for info in tar))


def _keys(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name.endswith(f".{LABELS}"):
            yield name[: -len(LABELS) - 1]
