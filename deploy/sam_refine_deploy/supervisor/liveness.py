"""Asks tritonserver itself, in a thread of its own: a server that hangs does not hold the watch."""

from __future__ import annotations

from threading import Event, Thread
from types import TracebackType
from typing import Final

from sam_refine_deploy.launcher.server import Server

_ASK_S: Final = 1.0
_PATIENCE_S: Final = 5.0
_MOST_MISSES: Final = 6
"""In a row, of so much patience each: then a server is taken for stuck."""


class Liveness:
    """What the server has said last, for the length of a block."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = Event()
        self.is_ready = True
        self._misses = 0
        self._thread = Thread(target=self._ask, name="liveness", daemon=True)

    def __enter__(self) -> Liveness:
        self._thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()

    def is_silent(self) -> bool:
        """Whether it has not answered for long, whatever the answer."""
        return self._misses >= _MOST_MISSES

    def excuse(self) -> None:
        """Forget that it did not answer: while it loads a model it may not."""
        self._misses = 0

    def _ask(self) -> None:
        while not self._ended.wait(_ASK_S):
            answer = self._server.says_ready(_PATIENCE_S)
            self.is_ready = answer is True
            self._misses = 0 if answer is not None else self._misses + 1
