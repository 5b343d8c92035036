"""Large tensors through system shared memory, to a server on the same machine.

A region is registered with the server and unlinked at once: it lives as long as somebody has it
mapped, and nothing is left in /dev/shm, whatever happens. Between its creation and the unlinking,
a millisecond, Python's resource tracker answers for it. What a client that crashed leaves with the
server, its registrations, the next client removes.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from sam_refine_client.errors import UNAVAILABLE
from sam_refine_client.steps import Pause, Remote, Steps

LEAST_BYTES: Final = 2**20
"""Smaller tensors travel in the message: as fast, and no region is made for them."""
_PREFIX: Final = "sam_refine"
_ALIGNMENT: Final = 64
_TIMEOUT_S: Final = 5.0
"""For what a server does in a millisecond."""
_CLOSING_S: Final = 2.0
"""To let go of regions that calls which ended early still hold, at the server or here."""
_CLOSING_PAUSE_S: Final = 0.1


@dataclass
class Region:
    """Memory that this process and the server share; used by one call at a time."""

    name: str
    memory: SharedMemory

    @property
    def size_bytes(self) -> int:
        return self.memory.size

    def array(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """A part of it as an array, not copied."""
        return np.ndarray(shape, dtype, self.memory.buf, offset)


class Regions:
    """The regions that one client has registered with one server."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self._begin()

    def _begin(self) -> None:
        self._idle: list[Region] = []
        self._doomed: list[Region] = []
        self._lent = 0
        self._lock = Lock()
        self._is_first = True

    def begin_in_fork(self) -> None:
        """Leave the regions to the parent process, which goes on with them."""
        self._begin()

    def take(self, size_bytes: int, deadline_s: float | None) -> Steps[Region]:
        """A region of at least this size, for one call, registered.

        Raises `InferenceServerException` where the server cannot be reached or does not have it,
        and `OSError` where there is no memory for it.
        """
        yield from self._forget_the_doomed(deadline_s)
        with self._lock:
            fitting = [region for region in self._idle if region.size_bytes >= size_bytes]
            if fitting:
                region = min(fitting, key=lambda region: region.size_bytes)
                self._idle.remove(region)
                self._lent += 1
                return region
            self._doomed += self._idle  # too small: a larger one takes their place
            self._idle.clear()
            is_first, self._is_first = self._is_first, False
        if is_first:
            yield from self._forget_those_of_the_dead(deadline_s)
        region = yield from self._register(size_bytes, deadline_s)
        with self._lock:
            self._lent += 1
        return region

    def give_back(self, region: Region) -> None:
        """Keep a region for later calls: the server is done with it."""
        with self._lock:
            self._lent -= 1
            self._idle.append(region)

    def doom(self, region: Region) -> None:
        """Never use a region again: the server may still read or write it."""
        with self._lock:
            self._lent -= 1
            self._doomed.append(region)

    def is_forgotten(self, region: Region, deadline_s: float | None) -> Steps[bool]:
        """Whether the server is there and does not know a region: it was started anew.

        Then no region is known to it any more.
        """
        try:
            status = yield self._remote("get_system_shared_memory_status", deadline_s)
        except InferenceServerException:
            return False
        if region.name in status.regions:
            return False
        with self._lock:
            self._doomed += self._idle
            self._idle.clear()
        return True

    def close(self) -> Steps[None]:
        """Let go of all regions; waits a little for calls that ended early."""
        with self._lock:
            self._doomed += self._idle
            self._idle.clear()
        deadline_s = time.monotonic() + _CLOSING_S
        while True:
            yield from self._forget_the_doomed(deadline_s)
            if not (self._doomed or self._lent) or time.monotonic() >= deadline_s:
                return
            yield Pause(_CLOSING_PAUSE_S)

    def _register(self, size_bytes: int, deadline_s: float | None) -> Steps[Region]:
        name = f"{_PREFIX}-{_process_name(os.getpid())}-{uuid.uuid4().hex}"
        memory = SharedMemory(name=name, create=True, size=_rounded_up(size_bytes, 2**20))
        region = Region(name, memory)
        try:
            _allocate(name, memory.size)
            yield self._remote(
                "register_system_shared_memory",
                deadline_s,
                name=name,
                key=f"/{name}",
                byte_size=memory.size,
            )
        except OSError:
            memory.close()
            raise
        except BaseException:  # the server may know it all the same
            with self._lock:
                self._doomed.append(region)
            raise
        finally:
            memory.unlink()
        return region

    def _remote(self, method: str, deadline_s: float | None, **arguments: object) -> Remote:
        timeout_s = _TIMEOUT_S
        if deadline_s is not None:
            timeout_s = min(timeout_s, max(0.0, deadline_s - time.monotonic()))
        return Remote(method, {**arguments, "headers": self._headers, "client_timeout": timeout_s})

    def _unregister(self, name: str, deadline_s: float | None) -> Remote:
        return self._remote("unregister_system_shared_memory", deadline_s, name=name)

    def _forget_the_doomed(self, deadline_s: float | None) -> Steps[None]:
        """Those that the server is still at work with stay for later."""
        with self._lock:
            doomed, self._doomed = self._doomed, []
        still_doomed = []
        try:
            while doomed:
                region = doomed[-1]
                try:
                    yield self._unregister(region.name, deadline_s)
                except InferenceServerException as error:
                    if error.status() != UNAVAILABLE:  # a server that has gone forgets
                        still_doomed.append(doomed.pop())
                        continue
                doomed.pop()
                with suppress(BufferError):  # an array of the caller's still looks into it
                    region.memory.close()
        finally:
            with self._lock:
                self._doomed += doomed + still_doomed

    def _forget_those_of_the_dead(self, deadline_s: float | None) -> Steps[None]:
        """Unregister what processes of this machine left that are no more."""
        try:
            status = yield self._remote("get_system_shared_memory_status", deadline_s)
            for name in status.regions:
                if _is_of_a_dead_process(name):
                    yield self._unregister(name, deadline_s)
        except InferenceServerException:
            return


@dataclass(frozen=True)
class Placement:
    """Where a call's large tensors lie in a region."""

    inputs: Mapping[str, npt.NDArray[Any]]
    outputs: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, npt.NDArray[Any]],
        outputs: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> Placement:
        """What is large enough; outputs are those whose dtype and shape are known beforehand."""
        return cls(
            {
                name: array
                for name, array in inputs.items()
                if array.dtype != np.object_ and array.nbytes >= LEAST_BYTES
            },
            {name: kind for name, kind in outputs.items() if _size_bytes(*kind) >= LEAST_BYTES},
        )

    @property
    def size_bytes(self) -> int:
        """0 where everything travels in the message."""
        sizes = [array.nbytes for array in self.inputs.values()]
        sizes += [_size_bytes(*kind) for kind in self.outputs.values()]
        return sum(_rounded_up(size, _ALIGNMENT) for size in sizes)

    def fill(
        self,
        region: Region,
        inputs: Mapping[str, triton.InferInput],
        outputs: Mapping[str, triton.InferRequestedOutput],
    ) -> None:
        """Copy the inputs into a region and tell Triton where they and the outputs lie."""
        offset = 0
        for name, array in self.inputs.items():
            region.array(offset, array.dtype, array.shape)[...] = array
            inputs[name].set_shared_memory(region.name, array.nbytes, offset)
            offset += _rounded_up(array.nbytes, _ALIGNMENT)
        for name, kind in self.outputs.items():
            outputs[name].set_shared_memory(region.name, _size_bytes(*kind), offset)
            offset += _rounded_up(_size_bytes(*kind), _ALIGNMENT)

    def read(self, region: Region) -> dict[str, npt.NDArray[Any]]:
        """The outputs, copied out of the region."""
        offset = sum(_rounded_up(array.nbytes, _ALIGNMENT) for array in self.inputs.values())
        arrays = {}
        for name, (dtype, shape) in self.outputs.items():
            arrays[name] = region.array(offset, dtype, shape).copy()
            offset += _rounded_up(_size_bytes(dtype, shape), _ALIGNMENT)
        return arrays


def _allocate(name: str, size_bytes: int) -> None:
    """Have the pages of shared memory now.

    Raises `OSError` where there are none left: writing to it would kill this process, or the
    server, by SIGBUS.
    """
    with Path("/dev/shm", name).open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)


def _size_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _rounded_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _process_name(pid: int) -> str:
    """A process by its namespace, number and start, so that no other is ever taken for it."""
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    # the start time is the 22nd field; the 2nd is a name in brackets that may hold spaces
    start = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return f"{namespace}-{pid}-{start}"


def _is_of_a_dead_process(region: str) -> bool:
    prefix, *process, _ = region.split("-") if region.count("-") == 4 else ("", "")
    if prefix != _PREFIX or process[0] != str(Path("/proc/self/ns/pid").stat().st_ino):
        return False
    try:
        return _process_name(int(process[1])) != "-".join(process)
    except (OSError, ValueError):
        return True
