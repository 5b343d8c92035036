"""A bounded LRU of image embeddings, shared by the processes of one server.

One file per embedding: Triton runs every instance of a Python model in a process of its own, and a
file system is what they share. The operating system keeps fresh files in memory; reading one takes
milliseconds, and a crash leaves nothing behind but files, which the next start removes. A file ends
with the digest of what is before: what the disk, or somebody, has changed is not used.
"""

from __future__ import annotations

import hashlib
import math
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
from sam_refine.contract.serving.run_directory import EMBEDDINGS, run_directory
from sam_refine.numerics.arrays import Float32, UInt8

_SHAPE: Final = (1, *EMBEDDING_SHAPE)
_SIZE_BYTES: Final = math.prod(_SHAPE) * np.dtype(np.float32).itemsize
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
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
            stored = path.read_bytes()
            os.utime(path)  # the modification time is that of the last use
        except OSError:  # not there, or removed meanwhile
            return None
        embedding = _checked(stored)
        if embedding is None:
            with suppress(OSError):
                path.unlink()
        return embedding

    def put(self, key: str, embedding: Float32) -> None:
        """Store an embedding. Where the disk is full, or values are not finite, it is not stored.

        A directory that somebody has removed, such as a cleaner of /tmp, is made again.
        """
        if self._capacity < 1 or not np.isfinite(embedding).all():
            return
        temporary = self._directory / f".{key}-{os.getpid()}"
        values = np.ascontiguousarray(embedding, np.float32).data
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(values)
                file.write(hashlib.sha256(values).digest())
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


def _checked(stored: bytes) -> Float32 | None:
    """The embedding that a file has, None where it has been changed."""
    values, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
    if len(values) != _SIZE_BYTES or hashlib.sha256(values).digest() != digest:
        return None
    embedding = np.frombuffer(bytearray(values), np.float32).reshape(_SHAPE)
    return embedding if np.isfinite(embedding).all() else None  # the digest is no secret


def content_key(image: UInt8, image_id: str | None, encoder_version: str) -> str:
    """The key of an image (H, W, 3): of its pixels, or of the caller's name for it.

    With a name the pixels are not looked at; the size is part of the key all the same.
    """
    digest = hashlib.sha256(repr((image.shape, image_id, encoder_version)).encode())
    if image_id is None:
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def open_server_directory() -> Path:
    """The directory of this server process: in its run directory, if it has one.

    Otherwise it is made for the server's first instance, and those of servers that have ended are
    removed. Triton is the parent of the processes that it runs Python models in. Where somebody
    else has something of that name, this instance gets a directory of its own.
    """
    run = run_directory()
    if run is not None:
        return run / EMBEDDINGS
    server = psutil.Process(os.getppid())
    temporary = Path(tempfile.gettempdir())
    _remove_of_dead_servers(temporary)
    directory = temporary / f"{_PREFIX}-{server.pid}-{int(server.create_time())}"
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
        return directory
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{server.pid}-"))


def _remove_of_dead_servers(temporary: Path) -> None:
    for directory in temporary.glob(f"{_PREFIX}-*-*"):
        pid = directory.name.split("-")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(directory, ignore_errors=True)
