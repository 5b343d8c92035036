"""How tensors get to the models and back: by gRPC, or within this process (`local`)."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from sam_refine.contract import MAX_MESSAGE_BYTES, InvalidRequestError, ModelSpec
from sam_refine_client.connection import ConnectionOptions, Retries, SharedMemoryUse
from sam_refine_client.errors import (
    DeadlineError,
    OverloadedError,
    ProtocolError,
    RefineError,
    UnreachableError,
    error_of,
)
from sam_refine_client.shared_memory import Placement, Region, Regions
from sam_refine_client.steps import Pause, Remote, Steps, Work

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]

_LIVENESS_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Call:
    """One request to a model."""

    model: ModelSpec
    tensors: Tensors
    outputs: tuple[str, ...]
    parameters: Mapping[str, str | int | float | bool]
    request_id: str
    deadline_s: float | None
    """By `time.monotonic`."""

    def remaining_s(self) -> float | None:
        """Seconds left. Raises `DeadlineError` where there are none."""
        if self.deadline_s is None:
            return None
        remaining = self.deadline_s - time.monotonic()
        if remaining <= 0:
            raise self.failed(DeadlineError, "the deadline passed")
        return remaining

    def placement(self) -> Placement:
        """What of it can lie in shared memory."""
        sizes = known_sizes(self.model, self.tensors)
        outputs = {}
        for spec in self.model.outputs:
            shape = tuple(
                sizes.get(size, -1) if isinstance(size, str) else size for size in spec.shape
            )
            if spec.name in self.outputs and -1 not in shape:
                outputs[spec.name] = spec.dtype, shape
        return Placement.of(self.tensors, outputs)

    def failed(self, kind: type[RefineError], message: str) -> RefineError:
        """An error of this call."""
        return kind(message, model=self.model.name, request_id=self.request_id)


def known_sizes(model: ModelSpec, tensors: Tensors) -> dict[str, int]:
    """The contract's letters that a request's tensors give a size to."""
    sizes = {
        letter: size
        for spec in model.inputs
        if spec.name in tensors
        for letter, size in zip(spec.shape, tensors[spec.name].shape, strict=True)
        if isinstance(letter, str)
    }
    if "IMAGE_SIZE" in tensors:
        sizes["H"], sizes["W"] = tensors["IMAGE_SIZE"].tolist()
    return sizes


class Transport(Protocol):
    """What a client sends its calls through."""

    def infer(self, call: Call) -> Steps[Tensors]:
        """The outputs by name. Raises `RefineError`."""

    def close(self) -> Steps[None]:
        """Let go of what it holds."""


class GrpcTransport:
    """Calls a server, again where it was not reached or had no room."""

    def __init__(self, options: ConnectionOptions, *, is_same_machine: bool) -> None:
        """`is_same_machine` is whether shared memory is worth a try."""
        self._headers = dict(options.headers)
        self._retries = options.retries
        self._shared_memory = options.shared_memory
        self._regions = Regions(options.headers)
        self._shares_memory = (
            is_same_machine
            if options.shared_memory is SharedMemoryUse.AUTO
            else options.shared_memory is SharedMemoryUse.ALWAYS
        )

    def infer(self, call: Call) -> Steps[Tensors]:
        """The outputs by name. Raises `RefineError`."""
        attempt = 1
        while True:
            try:
                tensors = yield from self._attempt(call)
                break
            except InferenceServerException as raised:
                error = yield from self._error(call, raised)
                if attempt >= self._retries.attempts or not isinstance(
                    error, UnreachableError | OverloadedError
                ):
                    raise error from raised
            wait_s = _wait_s(self._retries, attempt)
            remaining_s = call.remaining_s()
            if remaining_s is not None and wait_s >= remaining_s:
                raise error
            yield Pause(wait_s)
            attempt += 1
        missing = [name for name, tensor in tensors.items() if tensor is None]
        if missing:
            raise call.failed(ProtocolError, f"the answer lacks {', '.join(missing)}")
        return tensors

    def close(self) -> Steps[None]:
        """Let go of what the server holds for this client."""
        yield from self._regions.close()

    def _attempt(self, call: Call, *, is_again: bool = False) -> Steps[dict[str, Any]]:
        """What came, None for what did not. Raises `InferenceServerException`."""
        placement = call.placement() if self._shares_memory else Placement({}, {})
        if placement.size_bytes == 0:
            return (yield from self._send(call, placement, None))
        try:
            region = yield from self._regions.take(placement.size_bytes)
        except (InferenceServerException, OSError):
            if self._shared_memory is SharedMemoryUse.ALWAYS:
                raise
            self._shares_memory = False  # another machine or container behind a local address
            return (yield from self._send(call, Placement({}, {}), None))
        is_done = False
        try:
            tensors = yield from self._send(call, placement, region)
            is_done = True
            return tensors
        except InferenceServerException:
            if is_again or not (yield from self._regions.is_forgotten(region)):
                raise  # else the server was started anew: once more, with a new region
        finally:
            if is_done:
                self._regions.give_back(region)
            else:
                self._regions.doom(region)
        return (yield from self._attempt(call, is_again=True))

    def _send(
        self, call: Call, placement: Placement, region: Region | None
    ) -> Steps[dict[str, Any]]:
        specs = {spec.name: spec for spec in call.model.inputs if spec.name in call.tensors}
        inputs = {
            name: triton.InferInput(name, list(call.tensors[name].shape), spec.datatype)
            for name, spec in specs.items()
        }
        outputs = {name: triton.InferRequestedOutput(name) for name in call.outputs}

        def write() -> None:
            if region is not None:
                placement.fill(region, inputs, outputs)
            for name in inputs.keys() - placement.inputs.keys():
                _check_fits(name, call.tensors[name])
                inputs[name].set_data_from_numpy(call.tensors[name])

        yield Work(write)
        response = yield Remote(
            "infer",
            {
                "model_name": call.model.name,
                "inputs": list(inputs.values()),
                "outputs": list(outputs.values()),
                "parameters": dict(call.parameters),
                "request_id": call.request_id,
                "headers": self._headers,
                "client_timeout": call.remaining_s(),
            },
        )

        def read() -> dict[str, Any]:
            shared = {} if region is None else placement.read(region)
            return {
                name: shared[name] if name in shared else response.as_numpy(name)
                for name in call.outputs
            }

        tensors: dict[str, Any] = yield Work(read)
        return tensors

    def _error(self, call: Call, raised: InferenceServerException) -> Steps[RefineError]:
        """What a status means. A server that is there and still says UNAVAILABLE is overloaded."""
        error = error_of(
            raised.status(), raised.message(), model=call.model.name, request_id=call.request_id
        )
        if isinstance(error, UnreachableError):
            try:
                arguments = {"headers": self._headers, "client_timeout": _LIVENESS_TIMEOUT_S}
                is_live = yield Remote("is_server_live", arguments)
            except InferenceServerException:
                is_live = False
            if is_live:
                return call.failed(OverloadedError, error.message)
        return error


def _wait_s(retries: Retries, attempt: int) -> float:
    longest = min(retries.longest_wait_s, retries.first_wait_s * 2 ** (attempt - 1))
    return random.uniform(longest / 2, longest)


def _check_fits(name: str, tensor: npt.NDArray[Any]) -> None:
    if tensor.nbytes > MAX_MESSAGE_BYTES:
        raise InvalidRequestError(
            f"{name} must fit one message of {MAX_MESSAGE_BYTES} bytes, has {tensor.nbytes}"
        )
