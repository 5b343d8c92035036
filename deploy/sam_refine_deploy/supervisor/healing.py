"""Gives models fresh stubs while the watch goes on."""

from __future__ import annotations

import logging
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Final

from sam_refine_deploy.errors import ServeError
from sam_refine_deploy.launcher.server import Server
from sam_refine_deploy.launcher.stubs import Newborns, ProcessState, Stub, process_state, send
from sam_refine_deploy.supervisor.status import Status
from sam_refine_deploy.supervisor.watch import Cause, Watch

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.05
_OLD_S: Final = 3.0
"""How long Triton gets to end a stub that has nothing to do, and to give its memory back."""
_MOST_RELOADS: Final = 50
"""Of one server: each may leave a little memory behind in Triton."""


class Healing:
    """The reloads of one server, in a thread of their own for the length of a block."""

    def __init__(self, server: Server, watch: Watch, status: Status) -> None:
        self._server, self._watch, self._status = server, watch, status
        self._timeout_s = float(server.options.exit_timeout_s)
        self._pool = ThreadPoolExecutor(thread_name_prefix="healing")
        self._ended = Event()
        self._jobs: dict[str, Future[None]] = {}
        self._newborns = Newborns(server.process_id)
        self.count = 0
        """Reloads so far."""
        self._old: list[Stub] = []
        """Of models that were loaded anew."""
        self._idle_since_s: dict[int, float] = {}
        self._short_since_s: float | None = None

    def __enter__(self) -> Healing:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()  # nothing is loaded any more after this
        self._pool.shutdown(cancel_futures=True)

    @property
    def models(self) -> list[str]:
        """The models that are being healed. Raises `ServeError` where one cannot be."""
        for model, job in list(self._jobs.items()):
            if job.done():
                del self._jobs[model]
                job.result()
        dead = self._newborns.tend(self._watch.process_ids) if self._jobs else None
        if dead is not None:
            raise ServeError(f"a fresh process of {dead} died while it started")
        return sorted(self._jobs)

    def begin(self, model: str, cause: Cause) -> None:
        """Reload a model, unless that is under way."""
        if model not in self._jobs:
            self.count += 1
            self._jobs[model] = self._pool.submit(self._heal, model, cause)

    def end_old(self) -> None:
        """Kill stubs that were replaced and have nothing to do any more.

        Triton never ends those of a model that had another stub killed in the midst of a request.
        """
        now_s = time.monotonic()
        for stub in list(self._old):
            if process_state(stub.process_id) is ProcessState.ENDED:
                self._old.remove(stub)
                self._idle_since_s.pop(stub.process_id, None)
            elif self._server.is_answering(stub):
                self._idle_since_s.pop(stub.process_id, None)
            elif now_s - self._idle_since_s.setdefault(stub.process_id, now_s) > _OLD_S:
                send(stub.process_id, signal.SIGKILL)

    def why_worn(self) -> str | None:
        """Why a server started anew is better than this one, which was healed; None if it is not.

        A model of which a stub was killed in the midst of a request leaves its shared memory
        behind, as much as its requests have ever taken. It counts where it is more than is left.
        """
        if self.count > _MOST_RELOADS:
            return f"{_MOST_RELOADS} reloads are enough"
        if self.count == 0 or self._jobs:
            return None
        missed_mib = self._server.missed_shared_memory_bytes() // 2**20
        if missed_mib == 0:
            self._short_since_s = None
            return None
        now_s = time.monotonic()
        if self._short_since_s is None:
            self._short_since_s = now_s  # Triton may give it back yet
        if now_s - self._short_since_s <= _OLD_S:
            return None
        return f"{missed_mib} MiB of shared memory, which reloads left behind, are missed"

    def _heal(self, model: str, cause: Cause) -> None:
        begun_s = time.monotonic()
        self._server.reload(model, self._timeout_s, self._ended)
        while (old := self._watch.renew(model)) is None:
            if time.monotonic() - begun_s > self._timeout_s:
                raise ServeError(f"{model} has no fresh processes after {self._timeout_s:g} s")
            if self._ended.wait(_POLL_S):
                return
        self._old += old
        self._status.reloads.labels(model, cause.value).inc()
        logger.warning(
            "%s was loaded anew in %.1f s: a process of it had %s",
            model,
            time.monotonic() - begun_s,
            "ended" if cause is Cause.ENDED else f"been {cause.value}",
        )
