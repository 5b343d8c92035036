"""Large tensors through system shared memory, to a server on the same machine.

A segment of memory is registered with the server and unlinked at once: it lives as long as a
process has it mapped, and nothing is left in /dev/shm, whatever happens. In the millisecond between
its creation and the unlinking, Python's resource tracker looks after it. If a client crashes, its
registrations stay with the server until the next client removes them.

Triton's own word for a segment is "region"; here a region is always one of the coarse map.
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

from sam_refine.contract.serving.keys import SHARED_MEMORY_HEADER, read_key
from sam_refine.contract.serving.run_directory import SHARED_MEMORY
from sam_refine_client.errors import UNAVAILABLE
from sam_refine_client.steps.steps import Pause, Remote, Steps

LEAST_BYTES: Final = 2**20
"""Smaller tensors travel in the message, which is as fast and needs no segment."""
_PREFIX: Final = "sam_refine"
_ALIGNMENT: Final = 64
_TIMEOUT_S: Final = 5.0
"""For requests that a server answers within a millisecond."""
_CLOSING_S: Final = 2.0
"""How long `close` waits for segments still in use, by the server or by calls that ended early."""
_CLOSING_PAUSE_S: Final = 0.1


@dataclass
class Segment:
    """Memory that this process and the server share. One call uses it at a time."""

    name: str
    memory: SharedMemory

    @property
    def size_bytes(self) -> int:
        return self.memory.size

    def array(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """A part of it as an array, not copied."""
        return np.ndarray(shape, dtype, self.memory.buf, offset)


class Segments:
    """The segments that one client has registered with one server."""

    def __init__(self, headers: Mapping[str, str], grpc_port: int | None) -> None:
        """`grpc_port`: of a server on this machine, whose key is read; None looks for none."""
        self._headers = dict(headers)
        self._grpc_port = grpc_port
        self._begin()

    def _begin(self) -> None:
        self._idle: list[Segment] = []
        self._retired: list[Segment] = []
        self._lent = 0
        self._lock = Lock()
        self._is_first = True

    def begin_in_fork(self) -> None:
        """Leave the segments to the parent process, which goes on using them."""
        self._begin()

    def take(self, size_bytes: int, deadline_s: float | None) -> Steps[Segment]:
        """A registered segment of at least this size, for one call.

        Raises `InferenceServerException` if the server cannot be reached or cannot use it, and
        `OSError` if there is no memory for it.
        """
        yield from self._unregister_retired(deadline_s)
        with self._lock:
            fitting = [segment for segment in self._idle if segment.size_bytes >= size_bytes]
            if fitting:
                segment = min(fitting, key=lambda segment: segment.size_bytes)
                self._idle.remove(segment)
                self._lent += 1
                return segment
            self._retired += self._idle  # too small: a larger one replaces them
            self._idle.clear()
            is_first, self._is_first = self._is_first, False
        if is_first:
            yield from self._unregister_leftovers(deadline_s)
        segment = yield from self._register(size_bytes, deadline_s)
        with self._lock:
            self._lent += 1
        return segment

    def give_back(self, segment: Segment) -> None:
        """Keep a segment, cleared, for later calls; the server has finished with it."""
        segment.array(0, np.dtype(np.uint8), (segment.size_bytes,)).fill(0)
        with self._lock:
            self._lent -= 1
            self._idle.append(segment)

    def retire(self, segment: Segment) -> None:
        """Never use a segment again, because the server may still read or write it."""
        with self._lock:
            self._lent -= 1
            self._retired.append(segment)

    def is_unknown(self, segment: Segment, deadline_s: float | None) -> Steps[bool]:
        """Whether the server answers but does not know a segment, because it was restarted.

        It then knows none of the idle segments either, and they are retired.
        """
        try:
            status = yield self._remote("get_system_shared_memory_status", deadline_s)
        except InferenceServerException:
            return False
        if segment.name in status.regions:
            return False
        with self._lock:
            self._retired += self._idle
            self._idle.clear()
        return True

    def close(self) -> Steps[None]:
        """Release all segments; waits a little for those that are still in use."""
        with self._lock:
            self._retired += self._idle
            self._idle.clear()
        deadline_s = time.monotonic() + _CLOSING_S
        while True:
            yield from self._unregister_retired(deadline_s)
            if not (self._retired or self._lent) or time.monotonic() >= deadline_s:
                return
            yield Pause(_CLOSING_PAUSE_S)

    def _register(self, size_bytes: int, deadline_s: float | None) -> Steps[Segment]:
        name = f"{_PREFIX}-{_process_name(os.getpid())}-{uuid.uuid4().hex}"
        memory = SharedMemory(name=name, create=True, size=_rounded_up(size_bytes, 2**20))
        segment = Segment(name, memory)
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
        except BaseException:  # the server may have registered it nevertheless
            with self._lock:
                self._retired.append(segment)
            raise
        finally:
            memory.unlink()
        return segment

    def _remote(self, method: str, deadline_s: float | None, **arguments: object) -> Remote:
        timeout_s = _TIMEOUT_S
        if deadline_s is not None:
            timeout_s = min(timeout_s, max(0.0, deadline_s - time.monotonic()))
        headers = {**self._key(), **self._headers}
        return Remote(method, {**arguments, "headers": headers, "client_timeout": timeout_s})

    def _key(self) -> dict[str, str]:
        """Read anew each time: a server that was started anew has another one."""
        key = None if self._grpc_port is None else read_key(self._grpc_port)
        return {SHARED_MEMORY_HEADER: key} if key else {}

    def _unregister(self, name: str, deadline_s: float | None) -> Remote:
        return self._remote("unregister_system_shared_memory", deadline_s, name=name)

    def _unregister_retired(self, deadline_s: float | None) -> Steps[None]:
        """Unregister and unmap; segments that the server is still using stay for later."""
        with self._lock:
            retired, self._retired = self._retired, []
        still_retired = []
        try:
            while retired:
                segment = retired[-1]
                try:
                    yield self._unregister(segment.name, deadline_s)
                except InferenceServerException as error:
                    if error.status() != UNAVAILABLE:  # a server that is gone has forgotten it
                        still_retired.append(retired.pop())
                        continue
                retired.pop()
                with suppress(BufferError):  # an array of the caller still uses it
                    segment.memory.close()
        finally:
            with self._lock:
                self._retired += retired + still_retired

    def _unregister_leftovers(self, deadline_s: float | None) -> Steps[None]:
        """Unregister what processes of this machine registered that have ended since."""
        try:
            status = yield self._remote("get_system_shared_memory_status", deadline_s)
            for name in status.regions:
                if _owner_has_ended(name):
                    yield self._unregister(name, deadline_s)
        except InferenceServerException:
            return


@dataclass(frozen=True)
class Placement:
    """Where a call's large tensors lie in a segment."""

    inputs: Mapping[str, npt.NDArray[Any]]
    outputs: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, npt.NDArray[Any]],
        outputs: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    ) -> Placement:
        """The tensors that are large enough; `outputs` have a dtype and shape known beforehand."""
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
        """0 if everything travels in the message."""
        sizes = [array.nbytes for array in self.inputs.values()]
        sizes += [_size_bytes(*kind) for kind in self.outputs.values()]
        return sum(_rounded_up(size, _ALIGNMENT) for size in sizes)

    def fill(
        self,
        segment: Segment,
        inputs: Mapping[str, triton.InferInput],
        outputs: Mapping[str, triton.InferRequestedOutput],
    ) -> None:
        """Copy the inputs into a segment and tell Triton where they and the outputs lie."""
        offset = 0
        for name, array in self.inputs.items():
            segment.array(offset, array.dtype, array.shape)[...] = array
            inputs[name].set_shared_memory(segment.name, array.nbytes, offset)
            offset += _rounded_up(array.nbytes, _ALIGNMENT)
        for name, kind in self.outputs.items():
            outputs[name].set_shared_memory(segment.name, _size_bytes(*kind), offset)
            offset += _rounded_up(_size_bytes(*kind), _ALIGNMENT)

    def read(self, segment: Segment) -> dict[str, npt.NDArray[Any]]:
        """The outputs, copied out of the segment."""
        offset = sum(_rounded_up(array.nbytes, _ALIGNMENT) for array in self.inputs.values())
        arrays = {}
        for name, (dtype, shape) in self.outputs.items():
            arrays[name] = segment.array(offset, dtype, shape).copy()
            offset += _rounded_up(_size_bytes(dtype, shape), _ALIGNMENT)
        return arrays


def _allocate(name: str, size_bytes: int) -> None:
    """Have the kernel set aside the pages of a segment now.

    Raises `OSError` if there are too few: writing to missing pages later would kill this process,
    or the server, by SIGBUS.
    """
    with (SHARED_MEMORY / name).open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)


def _size_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _rounded_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _process_name(pid: int) -> str:
    """Namespace, number and start time of a process, which no other process has in common."""
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    # the start time is the 22nd field; the 2nd is a name in brackets that may contain spaces
    start = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return f"{namespace}-{pid}-{start}"


def _owner_has_ended(segment: str) -> bool:
    prefix, *process, _ = segment.split("-") if segment.count("-") == 4 else ("", "")
    if prefix != _PREFIX or process[0] != str(Path("/proc/self/ns/pid").stat().st_ino):
        return False
    try:
        return _process_name(int(process[1])) != "-".join(process)
    except (OSError, ValueError):
        return True
