"""Runs a server until a signal comes, and heals it meanwhile.

What is seen, and what is done about it, the cheapest first:

    a process is stopped       it is told to go on
    a stub is silent           it is killed
    a stub stood still         it ends itself (`contract.serving.heartbeat`)
    a stub has ended           its model is loaded anew; the others go on
    that does not help         the server is started anew
    tritonserver is silent     likewise
    tritonserver has ended     likewise, a bounded number of times; after failed starts with pauses
    after 50 reloads           likewise, when requests in flight are answered
    reloads have cost memory   likewise, where /dev/shm is short

So, too, while it ends, until they are answered; but tritonserver is not started anew then.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from types import FrameType
from typing import Final

import psutil

from sam_refine_deploy.errors import ServeError, StartCancelledError
from sam_refine_deploy.launcher.server import Server, ServerOptions
from sam_refine_deploy.launcher.stubs import UNKNOWN_MODEL, ProcessState, process_state, send
from sam_refine_deploy.supervisor.healing import Healing
from sam_refine_deploy.supervisor.liveness import Liveness
from sam_refine_deploy.supervisor.status import TRITONSERVER, Status
from sam_refine_deploy.supervisor.status_page import status_page
from sam_refine_deploy.supervisor.watch import Cause, Watch

logger = logging.getLogger(__name__)

_LOOK_S: Final = 0.1
_MOST_FAILED_STARTS: Final = 5
"""In a row: what fails so often does not heal by itself."""
_MOST_SHORT_LIVES: Final = 20
"""Likewise of servers that became ready, and ended before they were steady."""
_STEADY_S: Final = 60.0
"""A server that was up for so long counts as healed."""
_FIRST_PAUSE_S: Final = 0.5
"""After a start that failed, doubled after each more; after a server that was ready, none."""
_STILL_S: Final = 5.0
"""A process that is stopped again so soon is not worth another line."""


@dataclass(frozen=True)
class SupervisorOptions:
    """How to keep a server up."""

    health_port: int = 8003
    """Of liveness, readiness and the supervisor's own metrics, on the server's host."""
    drain_delay_s: float = 0.0
    """How long to serve on after a signal, not ready any more: until balancers have seen it."""
    hang_timeout_s: float = 900.0
    """How long a single request may be worked on until its process is taken for stuck."""

    def __post_init__(self) -> None:
        if not 1 <= self.health_port <= 65535:
            raise ServeError(f"health_port must be in [1, 65535], got {self.health_port}")
        if not self.drain_delay_s >= 0:
            raise ServeError(f"drain_delay_s must be >= 0, got {self.drain_delay_s}")
        if not self.hang_timeout_s > 0:
            raise ServeError(f"hang_timeout_s must be > 0, got {self.hang_timeout_s}")


class _LostError(ServeError):
    """The server has to be started anew."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def serve(
    options: ServerOptions,
    on_ready: Callable[[Server], None],
    supervisor: SupervisorOptions | None = None,
) -> int:
    """Keep a server up until SIGINT, SIGTERM or SIGHUP.

    `on_ready` is called once, when it is ready first.

    Returns 0, or 1 if requests in flight were lost at the end. Call it from the main thread: it
    replaces that thread's signal handlers until it returns. Raises `ServeError` if the first start
    fails, or if the server ends again and again.
    """
    ended = Event()
    status = Status()
    supervisor = supervisor or SupervisorOptions()
    if supervisor.health_port in options.ports.values():
        raise ServeError(f"ports must differ, got {supervisor.health_port} twice")
    with _signals_set(ended), status_page(status, options.host, supervisor.health_port):
        return _Supervisor(options, supervisor, status, ended).run(on_ready)


class _Supervisor:
    def __init__(
        self, options: ServerOptions, supervisor: SupervisorOptions, status: Status, ended: Event
    ) -> None:
        self._options, self._supervisor = options, supervisor
        self._status, self._ended = status, ended
        self._blind_s = -math.inf
        """When it was said last that nothing could be seen."""
        self._continued_s: dict[int, float] = {}
        """When each process was told to go on last."""

    def run(self, on_ready: Callable[[Server], None]) -> int:
        failed_starts = short_lives = 0
        while True:
            server = Server(self._options, self._ended, is_supervised=True)
            up_s = None
            try:
                with server:
                    up_s = time.monotonic()
                    self._status.set()
                    on_ready(server)
                    on_ready = _said_already
                    self._watch_over(server)
                return 0 if server.ended_cleanly else 1
            except StartCancelledError:
                return 0
            except _LostError as error:
                self._status.restarts.labels(error.cause.value).inc()
                reason = _one_line(error)
            except (ServeError, OSError) as error:
                if on_ready is not _said_already:
                    raise  # the first start: nothing was well before
                reason = _one_line(error)
            if up_s is None:
                failed_starts += 1
            else:
                failed_starts = 0
                short_lives = short_lives + 1 if time.monotonic() - up_s < _STEADY_S else 0
            if failed_starts >= _MOST_FAILED_STARTS:
                raise ServeError(f"gave up after {failed_starts} failed starts in a row: {reason}")
            if short_lives >= _MOST_SHORT_LIVES:
                raise ServeError(
                    f"gave up after {short_lives} starts of which none lasted {_STEADY_S:g} s: "
                    f"{reason}"
                )
            pause_s = _FIRST_PAUSE_S * 2 ** (failed_starts - 1) if failed_starts else 0.0
            self._status.set("the server is started anew")
            self._status.warn(())
            if self._ended.is_set():
                logger.warning("not started anew, since it was to end: %s", reason)
                return 1
            logger.warning("starting anew in %g s: %s", pause_s, reason)
            if self._ended.wait(pause_s):
                return 0
            _reap_orphans()

    def _watch_over(self, server: Server) -> None:
        """Until a signal comes and requests in flight are answered. Raises `_LostError`."""
        watch = Watch(server, self._supervisor.hang_timeout_s)
        for warning in watch.warnings():
            logger.warning("%s", warning)
        self._continued_s.clear()
        with Liveness(server) as liveness, Healing(server, watch, self._status) as healing:
            while not self._ended.wait(_LOOK_S):
                self._look(server, watch, liveness, healing)
            self._status.set("the server ends")
            end_s = time.monotonic() + self._supervisor.drain_delay_s
            while time.monotonic() < end_s:
                time.sleep(_LOOK_S)
                self._look(server, watch, liveness, healing)
            server.drain(lambda: self._look(server, watch, liveness, healing))

    def _look(
        self, server: Server, watch: Watch, liveness: Liveness, healing: Healing
    ) -> list[str]:
        """See what is wrong, and do something about it, as long as that can be seen at all.

        Returns the models that are being loaded anew. Raises `_LostError`.
        """
        try:
            return self._look_once(server, watch, liveness, healing)
        except OSError as error:  # for want of file descriptors or memory, for a moment
            now_s = time.monotonic()
            if now_s - self._blind_s > _STILL_S:
                logger.warning("the server's processes cannot be watched now: %s", error)
            self._blind_s = now_s
            return []

    def _look_once(
        self, server: Server, watch: Watch, liveness: Liveness, healing: Healing
    ) -> list[str]:
        if server.poll() is not None:
            raise _LostError(Cause.ENDED, str(server.failure()))
        if process_state(server.process_id) is ProcessState.STOPPED:
            self._continue(server.process_id, TRITONSERVER)
        if liveness.is_silent():
            server.kill()
            raise _LostError(Cause.SILENT, "tritonserver did not answer any more")
        if not server.is_whole() and not self._ended.is_set():
            self._status.set("the server is started anew")
            raise _LostError(Cause.WORN, f"files were removed from {server.run_directory}")
        for fault in watch.look():
            stub = fault.stub
            if stub.model == UNKNOWN_MODEL:
                server.kill()
                raise _LostError(Cause.ENDED, "a process of it died while it started")
            if fault.cause is Cause.STOPPED:
                self._continue(stub.process_id, stub.model)
            elif fault.cause is Cause.SILENT:
                logger.warning("%s is stuck and is killed", stub.instance)
                send(stub.process_id, signal.SIGKILL)
                healing.begin(stub.model, Cause.SILENT)
            else:
                healing.begin(stub.model, Cause.ENDED)
        healing.end_old()
        try:
            healed = healing.models
        except ServeError as error:
            if not self._ended.is_set():  # else its other stubs answer what they work on
                server.kill()
            raise _LostError(Cause.ENDED, str(error)) from error
        if healed:
            liveness.excuse()
        self._status.warn(watch.warnings())
        if self._ended.is_set():
            return healed
        self._status.set(*self._reasons(healed, watch, liveness))
        if not healed and (reason := healing.why_worn()):
            self._status.set("the server is started anew")
            raise _LostError(Cause.WORN, reason)
        return healed

    def _continue(self, process_id: int, name: str) -> None:
        """Before Triton finds that a stub does not answer: then it aborts."""
        now_s = time.monotonic()
        since_s = self._continued_s.get(process_id)
        if since_s is None or now_s - since_s > _STILL_S:
            logger.warning("%s (process %d) was stopped and is told to go on", name, process_id)
            self._status.continued.labels(name).inc()
        self._continued_s[process_id] = now_s
        send(process_id, signal.SIGCONT)

    def _reasons(self, healed: list[str], watch: Watch, liveness: Liveness) -> list[str]:
        reasons = [f"{model} is loaded anew" for model in healed]
        if not liveness.is_ready:
            reasons.append("tritonserver says that it is not ready")
        if watch.is_late():
            reasons.append("an instance is late")
        return reasons


def _reap_orphans() -> None:
    """As a container's first process this one inherits the stubs of a server that was killed."""
    with suppress(psutil.Error, OSError):
        for child in psutil.Process().children():
            with suppress(psutil.Error, OSError):
                if child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)


def _one_line(error: Exception) -> str:
    return "; ".join(filter(None, map(str.strip, str(error).splitlines())))


def _said_already(server: Server) -> None:
    """For every start but the first."""


@contextmanager
def _signals_set(event: Event) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `event` inside the block.

    SIGHUP comes from a terminal that is closed; where it is ignored, as under nohup, it stays so.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        event.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
