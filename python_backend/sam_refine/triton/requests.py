"""A model's requests and responses: tensors and parameters in, tensors or one error out.

What an error of this library becomes for the caller, and how it is counted:

    InvalidOptionError    INVALID_ARG   its text   invalid_option
    LimitExceededError    INVALID_ARG   its text   limit
    InvalidRequestError   INVALID_ARG   its text   invalid_tensor
    CancelledError        CANCELLED     fixed      cancelled
    ModelCallError        INTERNAL      its text   model_failed
    UnavailableError      UNAVAILABLE   its text   unavailable
    TooLateError          UNAVAILABLE   its text   too_late
    NoRoomError           UNAVAILABLE   its text   out_of_memory
    MemoryError           UNAVAILABLE   fixed      out_of_memory
    any other             INTERNAL      fixed      internal
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final

import numpy as np
import triton_python_backend_utils as pb_utils

from sam_refine.contract import (
    InvalidOptionError,
    InvalidRequestError,
    LimitExceededError,
    ModelSpec,
    Tensors,
)
from sam_refine.contract.serving.unavailable import has_no_room
from sam_refine.service.room import NoRoomError
from sam_refine.service.work_times import TooLateError

Answer = Callable[[Any], Tensors]
"""One request to its outputs by name."""


class CancelledError(Exception):
    """The caller has gone; the rest of the work is not wanted."""


class ModelCallError(Exception):
    """A model called by BLS answered with an error."""


class UnavailableError(Exception):
    """A model cannot be called now, but will be again: it is healed, or there is no room."""


class FailureReason(str, Enum):
    """Why a request got no outputs: the values of a metric's label `reason`."""

    INVALID_TENSOR = "invalid_tensor"
    """An input breaks a rule, is missing or comes twice, or an output cannot be had."""
    INVALID_OPTION = "invalid_option"
    """A request parameter is unknown or has a value that it cannot have."""
    LIMIT = "limit"
    """It asks for more than the deployment allows."""
    CANCELLED = "cancelled"
    """Its caller went away, or the deadline passed."""
    MODEL_FAILED = "model_failed"
    """The encoder or the decoder answered with an error."""
    UNAVAILABLE = "unavailable"
    """The encoder or the decoder was not back in time, or shared memory was used up."""
    TOO_LATE = "too_late"
    """The work would have ended after its caller's deadline, and was not begun."""
    OUT_OF_MEMORY = "out_of_memory"
    """There was not enough memory, or it ran out on the way."""
    INTERNAL = "internal"
    """A fault of this program; the server's log has the traceback."""


_SERVER_S_FAULT: Final = frozenset(
    {FailureReason.MODEL_FAILED, FailureReason.UNAVAILABLE, FailureReason.OUT_OF_MEMORY}
)
_LONGEST_ID: Final = 128


def read_parameters(args: Mapping[str, str]) -> dict[str, str]:
    """The config's parameters out of `initialize`'s arguments.

    Raises `RuntimeError` where this stub cannot work.
    """
    if int(np.__version__.split(".")[0]) >= 2:
        raise RuntimeError(
            "Triton's Python stub silently corrupts tensors with numpy 2; install numpy<2, "
            f"this is numpy {np.__version__}"
        )
    parameters = json.loads(args["model_config"]).get("parameters", {})
    return {name: value["string_value"] for name, value in parameters.items()}


def answer_each(
    requests: Iterable[Any],
    answer: Answer,
    count_failure: Callable[[FailureReason], None] = lambda reason: None,
) -> list[Any]:
    """One response for each request, whatever `answer` raises; no traceback reaches a caller.

    `count_failure` is told why a request failed.
    """
    return [_response(request, answer, count_failure) for request in requests]


def _response(request: Any, answer: Answer, count_failure: Callable[[FailureReason], None]) -> Any:
    try:
        outputs = answer(request)
        return pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in outputs.items()])
    except Exception as error:  # the outer edge
        text, code, reason = _failure(error)
        count_failure(reason)
        _log_failure(request, error, text, reason)
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))


def _failure(error: Exception) -> tuple[str, int, FailureReason]:
    """What the caller reads, Triton's code, and what it counts as."""
    codes = pb_utils.TritonError
    match error:
        case InvalidOptionError():
            return str(error), codes.INVALID_ARG, FailureReason.INVALID_OPTION
        case LimitExceededError():
            return str(error), codes.INVALID_ARG, FailureReason.LIMIT
        case InvalidRequestError():
            return str(error), codes.INVALID_ARG, FailureReason.INVALID_TENSOR
        case CancelledError():
            return "the request was cancelled", codes.CANCELLED, FailureReason.CANCELLED
        case ModelCallError():
            return str(error), codes.INTERNAL, FailureReason.MODEL_FAILED
        case UnavailableError():
            return str(error), codes.UNAVAILABLE, FailureReason.UNAVAILABLE
        case TooLateError():
            return str(error), codes.UNAVAILABLE, FailureReason.TOO_LATE
        case pb_utils.TritonModelException() if has_no_room(str(error)):
            return str(error), codes.UNAVAILABLE, FailureReason.UNAVAILABLE
        case NoRoomError():
            return str(error), codes.UNAVAILABLE, FailureReason.OUT_OF_MEMORY
        case MemoryError():
            text = "not enough memory for this request"
            return text, codes.UNAVAILABLE, FailureReason.OUT_OF_MEMORY
    return "internal error; the server's log has it", codes.INTERNAL, FailureReason.INTERNAL


def _log_failure(request: Any, error: Exception, text: str, reason: FailureReason) -> None:
    """One line with the request's id where the fault is not its caller's; else nothing."""
    name = f"request {request.request_id()[:_LONGEST_ID]!r}"  # a caller's text: no line ends
    if reason is FailureReason.INTERNAL:
        stack = "".join(traceback.format_exception(error))
        pb_utils.Logger.log_error(f"{name}: {reason.value}: {stack}")
    elif reason in _SERVER_S_FAULT:
        pb_utils.Logger.log_warn(f"{name}: {reason.value}: {text}")


def input_tensors(request: Any, model: ModelSpec) -> Tensors:
    """The inputs that the request has, by name."""
    tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in model.input_names}
    return {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}


def request_parameters(request: Any) -> dict[str, object]:
    """The request's parameters by name. Raises `InvalidOptionError` where they are no text."""
    try:
        parameters: dict[str, object] = json.loads(request.parameters() or "{}")
    except ValueError as error:  # what is no UTF-8, or no JSON because of it
        raise InvalidOptionError(f"the request's parameters must be UTF-8 text: {error}") from error
    return parameters
