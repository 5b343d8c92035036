"""Copies a server's log to stderr as it is written, and keeps its file short."""

from __future__ import annotations

import sys
from contextlib import suppress
from threading import Thread
from typing import IO, BinaryIO, Final

MOST_FILE_BYTES: Final = 16 * 2**20
"""A container's log is kept, and rotated, by whoever reads its stderr."""
_CHUNK_BYTES: Final = 2**16


class LogCopy:
    """Everything that comes out of a pipe, to a file and to stderr, until the pipe ends.

    Where one of the two cannot be written to, such as a file on a full disk, the other goes on.
    """

    def __init__(self, pipe: IO[bytes], file: BinaryIO, most_bytes: int = MOST_FILE_BYTES) -> None:
        """The file is emptied where it would grow beyond `most_bytes`."""
        self._pipe, self._file, self._most_bytes = pipe, file, most_bytes
        self._thread = Thread(target=self._run, name="log-copy", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Until everything is copied of a server that has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with self._pipe as pipe:
            # A pipe gives what there is, as soon as there is something.
            while chunk := pipe.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
                with suppress(OSError):
                    if self._file.tell() + len(chunk) > self._most_bytes:
                        self._file.truncate(0)
                    self._file.write(chunk)
                    self._file.flush()
                with suppress(OSError):
                    sys.stderr.buffer.write(chunk)
                    sys.stderr.buffer.flush()
