"""A model's requests and responses: tensors and parameters in, tensors or one error out."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from sam_refine.contract import InvalidRequestError, ModelSpec, Tensors

Answer = Callable[[Any], Tensors]


class CancelledError(Exception):
    """The caller has gone; the rest of the work is not wanted."""


class ModelCallError(Exception):
    """A model called by BLS answered with an error."""


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


def answer_each(requests: Iterable[Any], answer: Answer) -> list[Any]:
    """One response for each request, whatever `answer` raises; no traceback reaches a caller."""
    return [_response(request, answer) for request in requests]


def _response(request: Any, answer: Answer) -> Any:
    try:
        outputs = answer(request)
        return pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in outputs.items()])
    except InvalidRequestError as error:
        return _error(str(error), pb_utils.TritonError.INVALID_ARG)
    except CancelledError:
        return _error("the request was cancelled", pb_utils.TritonError.CANCELLED)
    except ModelCallError as error:
        return _error(str(error), pb_utils.TritonError.INTERNAL)
    except MemoryError:
        return _error("not enough memory for this request", pb_utils.TritonError.UNAVAILABLE)
    except Exception:  # the outer edge: anything else is this program's fault
        pb_utils.Logger.log_error(traceback.format_exc())
        return _error("internal error; the server's log has it", pb_utils.TritonError.INTERNAL)


def _error(text: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))


def input_tensors(request: Any, model: ModelSpec) -> Tensors:
    """The inputs that the request has, by name."""
    tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in model.input_names}
    return {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}


def request_parameters(request: Any) -> dict[str, object]:
    """The request's parameters by name."""
    try:
        parameters: dict[str, object] = json.loads(request.parameters() or "{}")
    except ValueError as error:  # what is no UTF-8, or no JSON because of it
        raise InvalidRequestError(
            f"the request's parameters must be UTF-8 text: {error}"
        ) from error
    return parameters
