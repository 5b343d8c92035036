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

from sam_refine.contract import MAX_MESSAGE_BYTES, InvalidRequestError, ModelSpec, TensorSpec
from sam_refine_client.connection import Retries
from sam_refine_client.errors import (
    DeadlineError,
    OverloadedError,
    ProtocolError,
    RefineError,
    UnreachableError,
    error_of,
)
from sam_refine_client.steps import Pause, Remote, Steps

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

    def failed(self, kind: type[RefineError], message: str) -> RefineError:
        """An error of this call."""
        return kind(message, model=self.model.name, request_id=self.request_id)


class Transport(Protocol):
    """What a client sends its calls through."""

    def infer(self, call: Call) -> Steps[Tensors]:
        """The outputs by name. Raises `RefineError`."""

    def close(self) -> None:
        """Let go of what it holds."""


class GrpcTransport:
    """Calls a server, again where it was not reached or had no room."""

    def __init__(self, headers: Mapping[str, str], retries: Retries) -> None:
        self._headers = dict(headers)
        self._retries = retries

    def infer(self, call: Call) -> Steps[Tensors]:
        """The outputs by name. Raises `RefineError`."""
        inputs = [_infer_input(spec, call.tensors) for spec in call.model.inputs]
        arguments = {
            "model_name": call.model.name,
            "inputs": [infer_input for infer_input in inputs if infer_input is not None],
            "outputs": [triton.InferRequestedOutput(name) for name in call.outputs],
            "parameters": dict(call.parameters),
            "request_id": call.request_id,
            "headers": self._headers,
        }
        attempt = 1
        while True:
            timeout = {"client_timeout": call.remaining_s()}
            try:
                response = yield Remote("infer", arguments | timeout)
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
        tensors = {name: response.as_numpy(name) for name in call.outputs}
        missing = [name for name, tensor in tensors.items() if tensor is None]
        if missing:
            raise call.failed(ProtocolError, f"the answer lacks {', '.join(missing)}")
        return tensors

    def close(self) -> None:
        """Nothing is held: the connection is the client's."""

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


def _infer_input(spec: TensorSpec, tensors: Tensors) -> triton.InferInput | None:
    tensor = tensors.get(spec.name)
    if tensor is None:
        return None
    if tensor.nbytes > MAX_MESSAGE_BYTES:
        raise InvalidRequestError(
            f"{spec.name} must fit one message of {MAX_MESSAGE_BYTES} bytes, has {tensor.nbytes}"
        )
    infer_input = triton.InferInput(spec.name, list(tensor.shape), spec.datatype)
    infer_input.set_data_from_numpy(tensor)
    return infer_input
