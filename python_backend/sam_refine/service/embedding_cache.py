"""A bounded LRU of image embeddings, shared by the processes of one server.

One file per embedding: Triton runs every instance of a Python model in a process of its own, and a
file system is what they share. The operating system keeps fresh files in memory; reading one takes
a millisecond, and a crash leaves nothing behind but files, which the next start removes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from sam_refine.contract import EMBEDDING_SHAPE
from sam_refine.numerics.arrays import Float32, UInt8

_SHAPE: Final = (1, *EMBEDDING_SHAPE)
_PREFIX: Final = "sam_refine-embeddings"


class EmbeddingCache:
    """Embeddings (1, 256, 64, 64) float32 by key; at most `capacity` of them, 4 MiB each.

    The longest unused goes first. Instances of this class on one directory, in any number of
    processes, see each other's embeddings.
    """

    def __init__(self, directory: Path, capacity: int) -> None:
        self._directory = directory
        self._capacity = capacity

    def __len__(self) -> int:
        """How many embeddings are stored now; 0 where the directory is gone."""
        try:
            return sum(not entry.name.startswith(".") for entry in os.scandir(self._directory))
        except OSError:
            return 0

    def get(self, key: str) -> Float32 | None:
        """The embedding stored under `key`, or None."""
        path = self._directory / key
        try:
            embedding = np.fromfile(path, np.float32).reshape(_SHAPE)
            os.utime(path)  # the modification time is that of the last use
        except (OSError, ValueError):  # not there, removed meanwhile, or cut
            return None
        return embedding

    def put(self, key: str, embedding: Float32) -> None:
        """Store an embedding. Where the disk is full or the directory gone, it is not stored."""
        if self._capacity < 1:
            return
        temporary = self._directory / f".{key}-{os.getpid()}"
        try:
            embedding.astype(np.float32, copy=False).tofile(temporary)
            temporary.replace(self._directory / key)
            self._drop_oldest()
        except OSError:
            with suppress(OSError):
                temporary.unlink()

    def _drop_oldest(self) -> None:
        used = []
        for entry in os.scandir(self._directory):
            with suppress(OSError):  # another process was faster
                used.append((entry.stat().st_mtime_ns, entry.path))
        for _, path in sorted(used)[: -self._capacity]:
            with suppress(OSError):
                Path(path).unlink()


def content_key(image: UInt8, image_id: str | None, encoder_version: str) -> str:
    """The key of an image (H, W, 3): of its pixels, or of the caller's name for it.

    With a name the pixels are not looked at; the size is part of the key all the same.
    """
    digest = hashlib.sha256(repr((image.shape, image_id, encoder_version)).encode())
    if image_id is None:
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def open_server_directory() -> Path:
    """The directory of this server process, made for its first instance; old ones are removed.

    Triton is the parent of the processes that it runs Python models in. Raises `OSError` where a
    directory of that name belongs to somebody else.
    """
    server = psutil.Process(os.getppid())
    temporary = Path(tempfile.gettempdir())
    _remove_of_dead_servers(temporary)
    directory = temporary / f"{_PREFIX}-{server.pid}-{int(server.create_time())}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to somebody else")
    return directory


def _remove_of_dead_servers(temporary: Path) -> None:
    for directory in temporary.glob(f"{_PREFIX}-*-*"):
        pid = directory.name.split("-")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(directory, ignore_errors=True)
