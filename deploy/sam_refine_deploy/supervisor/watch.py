"""What is wrong with the processes of a server right now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sam_refine.contract.serving.heartbeat import Beat, read_beat, read_warning
from sam_refine_deploy.launcher.server import Server
from sam_refine_deploy.launcher.stubs import ProcessState, Stub, has_failed, process_state

LATE_S: Final = 5.0
"""An instance that has not beaten for this long is not ready."""
SILENT_S: Final = 30.0
"""One that has not for this long is taken for stuck. A busy machine is late for seconds at most."""
_OWN_PAUSE_S: Final = 2.0


class Cause(str, Enum):
    """What has happened to a process."""

    ENDED = "ended"
    """Killed, for want of memory for one, or crashed."""
    STOPPED = "stopped"
    """By a signal; it can go on."""
    WORN = "worn"
    """It was healed so often, or at such a price, that a fresh one is better."""
    SILENT = "silent"
    """It is there but does nothing, or does the same for too long."""


@dataclass(frozen=True)
class Fault:
    """A stub that does not do its work."""

    stub: Stub
    cause: Cause


class Watch:
    """The stubs that a server had when it was ready, and what has become of them."""

    def __init__(self, server: Server, hang_timeout_s: float) -> None:
        """`hang_timeout_s`: how long a single request may be worked on."""
        self._server = server
        self._hang_timeout_s = hang_timeout_s
        self._stubs: dict[str, list[Stub]] = {}
        self._replaced: list[Stub] = []
        self._looked_s = self._awake_s = time.monotonic()
        for stub in server.first_stubs():
            self._stubs.setdefault(stub.model, []).append(stub)

    def look(self) -> list[Fault]:
        """The faults of now. Of what happened while this process itself was paused, only ends."""
        now_s = time.monotonic()
        if now_s - self._looked_s > _OWN_PAUSE_S:
            self._awake_s = now_s  # the beats of the pause are missing
        self._looked_s = now_s
        return [
            Fault(stub, cause) for stub in self._watched() if (cause := self._cause(stub, now_s))
        ]

    def is_late(self) -> bool:
        """Whether an instance has not beaten for a while; one that never beat is not missed."""
        now_s = time.monotonic()
        return any(
            (beat := read_beat(self._server.run_directory, stub.process_id)) is not None
            and now_s - max(beat.at_s, self._awake_s) > LATE_S
            for stub in self._watched()
        )

    def warnings(self) -> tuple[str, ...]:
        """What instances say of themselves, though they work."""
        found = [
            read_warning(self._server.run_directory, stub.process_id) for stub in self._watched()
        ]
        return tuple(warning for warning in found if warning is not None)

    @property
    def process_ids(self) -> set[int]:
        """Of the stubs that are watched, and of those that were."""
        return {stub.process_id for stub in (*self._watched(), *self._replaced)}

    def renew(self, model: str) -> list[Stub] | None:
        """Watch the fresh stubs of a model instead of the old ones, which are returned.

        None as long as there are not as many fresh ones.
        """
        old = self._stubs.get(model, [])
        fresh = [
            stub
            for stub in self._server.stubs()
            if stub.model == model and stub not in old and stub not in self._replaced
        ]
        if len(fresh) < len(old):
            return None
        self._stubs[model] = fresh
        self._replaced += old
        return old

    def _watched(self) -> list[Stub]:
        return [stub for group in list(self._stubs.values()) for stub in group]

    def _cause(self, stub: Stub, now_s: float) -> Cause | None:
        state = process_state(stub.process_id)
        if state is ProcessState.ENDED:
            is_lost = not self._server.has_unloaded(stub.model) or has_failed(stub.process_id)
            return Cause.ENDED if is_lost else None
        beat = read_beat(self._server.run_directory, stub.process_id)
        if beat is not None and self._is_silent(beat, now_s):
            return Cause.SILENT  # stopped for so long, it does not go on when told to
        return Cause.STOPPED if state is ProcessState.STOPPED else None

    def _is_silent(self, beat: Beat, now_s: float) -> bool:
        since_s = now_s if beat.answering_since_s is None else beat.answering_since_s
        return (
            now_s - max(beat.at_s, self._awake_s) > SILENT_S
            or now_s - max(since_s, self._awake_s) > self._hang_timeout_s
        )
