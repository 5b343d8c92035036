"""Calls a server by gRPC: shared memory, retries, and a check of what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from sam_refine.contract import (
    MAX_MESSAGE_BYTES,
    InvalidRequestError,
    Tensors,
    TensorSpec,
)
from sam_refine.contract.serving.turns import needed_s
from sam_refine.contract.serving.unavailable import has_no_room
from sam_refine_client.errors import (
    HANGS_UP,
    HTTP1_INSTEAD,
    OUTCOME_UNKNOWN,
    UNAVAILABLE,
    DeadlineError,
    OverloadedError,
    ProtocolError,
    RefineError,
    UnreachableError,
    error_of,
    is_soon_available,
)
from sam_refine_client.status.health import Readiness
from sam_refine_client.status.info import ServerInfo
from sam_refine_client.status.questions import Questions
from sam_refine_client.steps.steps import Pause, Remote, Steps, Work
from sam_refine_client.transport.call import Call
from sam_refine_client.transport.connection import (
    ConnectionOptions,
    SharedMemoryUse,
    speaks_http1,
)
from sam_refine_client.transport.shared_memory import Placement, Segment, Segments
from sam_refine_client.transport.tracing import trace_headers
from sam_refine_client.transport.turns import Turns

_LIVENESS_TIMEOUT_S = 1.0


class GrpcTransport:
    """Calls a server, and calls again if it was not reached or had no room."""

    def __init__(
        self,
        options: ConnectionOptions,
        *,
        local_port: int | None,
        proxy: str | None = None,
        address: tuple[str, int] | None = None,
    ) -> None:
        """`local_port`: of a server on this machine; `SharedMemoryUse.AUTO` tries shared memory.

        `proxy` is the variable of the environment whose proxy is on the way, if one is; `address`
        the only one, where it is not encrypted.
        """
        self._proxy = proxy
        self._address = address
        self._headers = dict(options.headers)
        self._retries = options.retries
        self._has_answered = False
        self._turns = Turns()
        self._shared_memory = options.shared_memory
        self._segments = Segments(options.headers, local_port)
        self._shares_memory = (
            local_port is not None
            if options.shared_memory is SharedMemoryUse.AUTO
            else options.shared_memory is SharedMemoryUse.ALWAYS
        )

    def infer(self, call: Call) -> Steps[Tensors]:
        """The outputs by name. Raises `RefineError`."""
        attempts, wait_s = 0, 0.0
        while True:
            try:
                if wait_s > 0:
                    yield Pause(wait_s)
                tensors = yield from self._attempt(call)
                self._has_answered = True
                return tensors
            except InferenceServerException as raised:
                error = yield from self._error(call, raised)
                self._has_answered |= not isinstance(error, UnreachableError)
                attempts += 1
                wait_s = self._retries.wait_s(attempts)
                work_s = needed_s(raised.message())
                if work_s is not None:
                    self._turns.learn(call, work_s)
                    wait_s = 0.0
                    if self._turns.is_too_late(call, work_s):
                        raise call.failed(DeadlineError, error.message) from raised
                is_hopeful = self._has_answered and not has_no_room(raised.message() or "")
                if (
                    not _helps_to_wait(error, raised)
                    or attempts >= self._retries.most(call.deadline_s, is_hopeful=is_hopeful)
                    or call.is_over_in(wait_s)
                ):
                    raise error from raised

    def info(self, deadline_s: float | None) -> Steps[ServerInfo]:
        """What the server is. Raises `RefineError`."""
        return Questions(self._headers, deadline_s, self._explained).info()

    def readiness(self, deadline_s: float | None) -> Steps[Readiness]:
        """What the server says of itself; raises nothing."""
        return Questions(self._headers, deadline_s, self._explained).readiness()

    def close(self) -> Steps[None]:
        """Release the shared memory that the server holds for this client."""
        yield from self._segments.close()

    def same_image(self) -> AbstractContextManager[None]:
        """Nothing: the server keeps what it wants to keep."""
        return nullcontext()

    def begin_in_fork(self) -> None:
        """Leave the shared memory to the parent process."""
        self._segments.begin_in_fork()

    def _attempt(self, call: Call, *, is_again: bool = False) -> Steps[Tensors]:
        """Raises `InferenceServerException`, and `ProtocolError` for an answer of other tensors."""
        call.remaining_s()
        placement = _placement(call) if self._shares_memory else Placement({}, {})
        if placement.size_bytes == 0:
            return (yield from self._send(call, placement, None))
        try:
            segment = yield from self._segments.take(placement.size_bytes, call.deadline_s)
        except (InferenceServerException, OSError) as error:
            if self._shared_memory is SharedMemoryUse.ALWAYS:
                raise
            if (
                isinstance(error, InferenceServerException)
                and error.status() not in OUTCOME_UNKNOWN
            ):
                self._shares_memory = False  # another machine or container behind a local address
            return (yield from self._send(call, Placement({}, {}), None))
        is_done = False
        try:
            tensors = yield from self._send(call, placement, segment)
            is_done = True
            return tensors
        except InferenceServerException as error:
            if is_again or error.status() in OUTCOME_UNKNOWN:
                raise
            if not (yield from self._segments.is_unknown(segment, call.deadline_s)):
                raise  # otherwise the server was restarted: once more, with a new segment
        finally:
            if is_done:
                self._segments.give_back(segment)
            else:
                self._segments.retire(segment)
        return (yield from self._attempt(call, is_again=True))

    def _send(self, call: Call, placement: Placement, segment: Segment | None) -> Steps[Tensors]:
        specs = {spec.name: spec for spec in call.model.inputs if spec.name in call.tensors}
        inputs = {
            name: triton.InferInput(name, list(call.tensors[name].shape), spec.datatype)
            for name, spec in specs.items()
        }
        outputs = {name: triton.InferRequestedOutput(name) for name in call.outputs}

        def write() -> None:
            if segment is not None:
                placement.fill(segment, inputs, outputs)
            for name in inputs.keys() - placement.inputs.keys():
                _check_fits(name, call.tensors[name])
                inputs[name].set_data_from_numpy(call.tensors[name])

        yield Work(write)
        turn = self._turns.of(call)
        response = yield Remote(
            "infer",
            {
                "model_name": call.model.name,
                "inputs": list(inputs.values()),
                "outputs": list(outputs.values()),
                "parameters": {**call.parameters, **turn.parameters()},
                **turn.arguments(),
                "request_id": call.request_id,
                "headers": {**trace_headers(), **self._headers},
                "client_timeout": call.remaining_s(),
            },
        )

        def read() -> Tensors:
            _check_answer(call, response)
            shared = {} if segment is None else placement.read(segment)
            return {
                name: shared[name] if name in shared else _array(call, response, name)
                for name in call.outputs
            }

        tensors: Tensors = yield Work(read)
        return tensors

    def _error(self, call: Call, raised: InferenceServerException) -> Steps[RefineError]:
        """What a status means. A server that is live but says UNAVAILABLE is overloaded."""
        error = error_of(
            raised.status(), raised.message(), model=call.model.name, request_id=call.request_id
        )
        if isinstance(error, UnreachableError) and not call.is_over_in(0):
            timeout_s = min(_LIVENESS_TIMEOUT_S, call.remaining_s() or _LIVENESS_TIMEOUT_S)
            try:
                arguments = {"headers": self._headers, "client_timeout": timeout_s}
                is_live = yield Remote("is_server_live", arguments)
            except InferenceServerException:
                is_live = False
            if is_live:
                return call.failed(OverloadedError, error.message)
            if (yield from self._is_web_server(error)):
                text = HTTP1_INSTEAD
                return error_of(None, text, model=call.model.name, request_id=call.request_id)
        if isinstance(error, UnreachableError) and self._proxy and "proxy" not in error.advice:
            error.advice += (
                f"; calls go by the proxy that {self._proxy} names: set no_proxy to the server's "
                "host if they should not"
            )
        return error

    def _explained(self, error: RefineError) -> Steps[RefineError]:
        """The error of a question: of what hangs up, whether it is a server of HTTP."""
        is_web_server = yield from self._is_web_server(error)
        return error_of(None, HTTP1_INSTEAD) if is_web_server else error

    def _is_web_server(self, error: RefineError) -> Steps[bool]:
        """Whether what hung up, where no server ever answered, speaks HTTP/1."""
        address = self._address
        if address is None or self._has_answered or not HANGS_UP.search(error.message):
            return False
        try:
            found: bool = yield Work(lambda: speaks_http1(address))
        except InferenceServerException:  # the client was closed
            return False
        return found


def _placement(call: Call) -> Placement:
    """What of a call can go through shared memory: outputs if their size is known beforehand."""
    sizes = call.known_sizes()
    outputs = {}
    for spec in call.model.outputs:
        shape = tuple(sizes.get(size, -1) if isinstance(size, str) else size for size in spec.shape)
        if spec.name in call.outputs and -1 not in shape:
            outputs[spec.name] = spec.dtype, shape
    return Placement.of(call.tensors, outputs)


def _helps_to_wait(error: RefineError, raised: InferenceServerException) -> bool:
    return isinstance(error, UnreachableError | OverloadedError) and (
        raised.status() == UNAVAILABLE or is_soon_available(raised.message())
    )


def _check_fits(name: str, tensor: npt.NDArray[Any]) -> None:
    if tensor.nbytes > MAX_MESSAGE_BYTES:
        raise InvalidRequestError(
            f"{name} must fit into one message of {MAX_MESSAGE_BYTES} bytes, got {tensor.nbytes}"
        )


def _check_answer(call: Call, response: triton.InferResult) -> None:
    """Raise `ProtocolError` unless the outputs are the contract's, and agree on each size."""
    sizes = call.known_sizes()
    specs = {spec.name: spec for spec in call.model.outputs}
    found = {name: response.get_output(name) for name in call.outputs}
    missing = [name for name, output in found.items() if output is None]
    if missing:
        raise call.failed(ProtocolError, f"the answer lacks {', '.join(missing)}")
    wrong = [
        f"{name} must be {specs[name].datatype} {_shape_text(specs[name].shape, sizes)}, "
        f"got {output.datatype} {_shape_text(output.shape, {})}"
        for name, output in found.items()
        if not _fits(specs[name], sizes, output)
    ]
    if wrong:
        raise call.failed(ProtocolError, f"in the answer {'; '.join(wrong)}")


def _fits(spec: TensorSpec, sizes: dict[str, int], output: Any) -> bool:
    """Whether an output fits a spec; adds sizes that were not known to `sizes`."""
    if output.datatype != spec.datatype or len(output.shape) != len(spec.shape):
        return False
    return all(
        size >= 0 and size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
        for axis, size in zip(spec.shape, output.shape, strict=True)
    )


def _shape_text(shape: Iterable[int | str], sizes: Mapping[str, int]) -> str:
    axes = (sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in shape)
    return f"({', '.join(map(str, axes))})"


def _array(call: Call, response: triton.InferResult, name: str) -> npt.NDArray[Any]:
    """A copy for the caller: an array on the message itself could not be written to."""
    try:
        array: npt.NDArray[Any] = response.as_numpy(name).copy()
        return array
    except ValueError as error:
        raise call.failed(
            ProtocolError, f"in the answer {name} has fewer or more bytes than its shape needs"
        ) from error
