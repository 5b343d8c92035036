"""What the requests in flight have reserved, in all processes that answer for one server.

Each process keeps a file, locked for as long as it lives, so that the kernel voids what a process
that has ended had reserved:

    <run directory>/budget/lock      held by who reserves or gives back
    <run directory>/budget/PID       a `Reservation`

The rule: a request is let in where what it needs is at most what is free *now*, less what others
have reserved and not taken yet. What others have taken is no longer free, so it counts once. Taken
is by how much a process has grown since it reserved: its private memory, and its region of
/dev/shm. A process that fills what it had kept from before does not grow, and counts as if it had
taken nothing: too much is held for it, never too little. A request alone is held against all that
is free.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Final

from sam_refine.contract.serving.run_directory import BUDGET, run_directory
from sam_refine.service.stub_region import own_region, region_bytes

ANSWER_S: Final = 2.0
"""How long room in /dev/shm is held for outputs that Triton copies there after the work, unless it
has taken it before."""
_LOCK: Final = "lock"


@dataclass(frozen=True)
class Needs:
    """Bytes that a request will take on top of what its process has."""

    memory_bytes: int
    """In all, what lies in /dev/shm included."""
    shared_bytes: int = 0
    """In /dev/shm."""
    answer_bytes: int = 0
    """Those of them in /dev/shm that are taken after the work, by its outputs."""


@dataclass(frozen=True)
class Promised:
    """What requests in flight have reserved and not taken yet."""

    memory_bytes: int
    shared_bytes: int
    regions: frozenset[str]
    """Names of the regions of the processes that reserve here."""


@dataclass(frozen=True)
class Reservation:
    """Of one process, for all requests that it works on; what it had when the first one came."""

    memory_bytes: int = 0
    shared_bytes: int = 0
    private_before: int = 0
    region_before: int = 0
    ends_s: float = 0.0
    """When it is void, as time of `time.monotonic`, which all processes of a machine share."""
    region: str = ""

    def promised(self, process_id: int) -> tuple[int, int]:
        """Memory and shared memory that the process has still to take."""
        if time.monotonic() > self.ends_s:
            return 0, 0
        grown = region_bytes(self.region) - self.region_before
        taken = private_bytes(process_id) - self.private_before + grown
        return _rest(self.memory_bytes, taken), _rest(self.shared_bytes, grown)


class Budget:
    """Of one process; those on one directory see each other."""

    def __init__(self, directory: Path | None, region: str = "") -> None:
        """Without a directory, or where it is gone, a process knows of no other's requests.

        `region` is the name of this process's part of /dev/shm, where it is a stub of Triton's.
        """
        self._directory = directory
        self.region = region
        self._threads = Lock()
        self._requests = 0
        self._own = Reservation(region=region)
        self._file: FileIO | None = None

    @contextmanager
    def reserved(self, choose: Callable[[Promised], Needs]) -> Iterator[None]:
        """Hold room for the work in the block, and give it back however that ends.

        `choose` is told what others will take, looks at what is free, and says what to hold; what
        it raises is raised. Nobody else chooses meanwhile.
        """
        with self._turn():
            needs = choose(self._promised())
            self._hold(needs)
        answer_bytes = 0
        try:
            yield
            answer_bytes = needs.answer_bytes
        finally:
            with self._turn():
                self._give_back(needs, answer_bytes)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._threads, ExitStack() as stack:
            if self._directory is not None:
                with suppress(OSError):
                    self._directory.mkdir(mode=0o700, exist_ok=True)
                    lock = stack.enter_context((self._directory / _LOCK).open("w"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _promised(self) -> Promised:
        others = {} if self._directory is None else _living(self._directory)
        everybody = others | {os.getpid(): self._own}
        rests = [each.promised(process_id) for process_id, each in everybody.items()]
        memory, shared = map(sum, zip(*rests, strict=True))
        return Promised(memory, shared, frozenset(each.region for each in everybody.values()))

    def _hold(self, needs: Needs) -> None:
        if self._requests == 0:
            self._begin(0, ends_s=float("inf"))
        self._requests += 1
        self._add(needs.memory_bytes, needs.shared_bytes)

    def _give_back(self, needs: Needs, answer_bytes: int) -> None:
        self._requests -= 1
        if self._requests == 0:
            self._begin(answer_bytes, time.monotonic() + ANSWER_S if answer_bytes else 0.0)
            self._write()
        else:
            self._add(-needs.memory_bytes, -needs.shared_bytes)

    def _begin(self, held_bytes: int, ends_s: float) -> None:
        """Hold so much of shared memory, and nothing else, on top of what the process has now."""
        self._own = Reservation(
            memory_bytes=held_bytes,
            shared_bytes=held_bytes,
            private_before=private_bytes(os.getpid()),
            region_before=region_bytes(self.region),
            ends_s=ends_s,
            region=self.region,
        )

    def _add(self, memory_bytes: int, shared_bytes: int) -> None:
        own = self._own
        self._own = replace(
            own,
            memory_bytes=own.memory_bytes + memory_bytes,
            shared_bytes=own.shared_bytes + shared_bytes,
        )
        self._write()

    def _write(self) -> None:
        if self._directory is None:
            return
        with suppress(OSError):
            if self._file is None:
                file = FileIO(self._directory / str(os.getpid()), "a+")
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._file = file
            self._file.truncate(0)
            self._file.write(json.dumps(asdict(self._own)).encode())


@cache
def process_budget() -> Budget:
    """This process's: that of its server, where it is a stub of one that is supervised."""
    directory = run_directory()
    return Budget(None if directory is None else directory / BUDGET, own_region())


def _living(directory: Path) -> dict[int, Reservation]:
    """What other processes hold, by process. Files of those that have ended are removed."""
    found = {}
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name in (_LOCK, str(os.getpid())):
                continue
            with suppress(OSError, ValueError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:  # its owner lives
                    found[int(path.name)] = Reservation(**json.loads(file.read()))
                else:
                    path.unlink()
    return found


def private_bytes(process_id: int) -> int:
    """Memory that a process shares with no other and with no file; 0 where it has ended."""
    try:
        pages = Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(pages[1]) - int(pages[2])) * mmap.PAGESIZE


def _rest(reserved: int, taken: int) -> int:
    return max(0, reserved - max(0, taken))
