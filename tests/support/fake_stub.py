"""What the library uses of `triton_python_backend_utils`, without Triton; importing installs it.

Metrics are as strict as the server's, which ends where it is called wrongly: `MISUSES` has what
would have ended it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TRITONSERVER_MEMORY_CPU = "cpu"
TRITONSERVER_MEMORY_GPU = "gpu"

MISUSES: list[str] = []
LOG: list[str] = []
SERIES: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
"""The values of every call, by metric and labels."""


TRACE = object()
"""The trace of every request."""


class TritonModelException(Exception):  # noqa: N818 - Triton's name
    pass


class Logger:
    @staticmethod
    def log_warn(text: str) -> None:
        LOG.append(text)

    @staticmethod
    def log_error(text: str) -> None:
        LOG.append(text)


class TritonError:
    INVALID_ARG, CANCELLED, INTERNAL, UNAVAILABLE = (
        "INVALID_ARG",
        "CANCELLED",
        "INTERNAL",
        "UNAVAIL",
    )

    def __init__(self, text: str, code: str) -> None:
        self.text, self.code = text, code

    def message(self) -> str:
        return self.text


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    @classmethod
    def from_dlpack(cls, name: str, array: Any) -> Tensor:
        return cls(name, array.cpu().numpy())

    def as_numpy(self) -> np.ndarray:
        return self._array

    def to_dlpack(self) -> Any:
        return self._array


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor] = field(default_factory=list)
    error_: TritonError | None = None

    def __init__(self, output_tensors: Any = (), error: TritonError | None = None) -> None:
        self.output_tensors, self.error_ = list(output_tensors), error

    def has_error(self) -> bool:
        return self.error_ is not None

    def error(self) -> TritonError | None:
        return self.error_


@dataclass
class PreferredMemory:
    kind: str


@dataclass
class InferenceRequest:
    """A call by BLS; `callees` has what a model answers it with."""

    request_id: str
    trace: object
    model_name: str
    inputs: list[Tensor]
    requested_output_names: list[str]
    preferred_memory: PreferredMemory

    callees = {}  # noqa: RUF012 - the tests' to fill

    def exec(self) -> InferenceResponse:
        return self.callees[self.model_name](self)


@dataclass
class Request:
    """A request as Triton hands it to a model."""

    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    parameters_: str = ""
    cancelled: bool = False
    id_: str = "id"

    def request_id(self) -> str:
        return self.id_

    def trace(self) -> object:
        return TRACE

    def is_cancelled(self) -> bool:
        return self.cancelled

    def parameters(self) -> str:
        return self.parameters_


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    return Tensor(name, request.inputs[name]) if name in request.inputs else None


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    return next((tensor for tensor in response.output_tensors if tensor.name() == name), None)


class MetricFamily:
    COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

    def __init__(self, name: str, description: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def Metric(self, labels: dict[str, str], buckets: list[float] | None = None) -> Metric:
        if (self.kind == "histogram") != (buckets is not None):
            MISUSES.append(f"{self.name}: buckets")
        elif buckets is not None and buckets != sorted(set(buckets)):
            MISUSES.append(f"{self.name}: buckets in no order")
        return Metric(self, labels)


class Metric:
    def __init__(self, family: MetricFamily, labels: dict[str, str]) -> None:
        self._kind = family.kind
        self._name = f"{family.name}{labels}"
        self._values = SERIES.setdefault((family.name, tuple(labels.items())), [])

    def increment(self, value: float) -> None:
        self._call(value, right=self._kind != "histogram" and (value >= 0 or self._kind == "gauge"))

    def set(self, value: float) -> None:
        self._call(value, right=self._kind == "gauge")

    def observe(self, value: float) -> None:
        self._call(value, right=self._kind == "histogram")

    def _call(self, value: float, *, right: bool) -> None:
        if type(value) is not float or not np.isfinite(value) or not right:
            MISUSES.append(f"{self._name}: {value!r}")
            raise TritonModelException("the server ends soon")
        self._values.append(value)


def reset() -> None:
    """Forget what was reported and logged."""
    for each in (MISUSES, LOG, SERIES, InferenceRequest.callees):
        each.clear()


sys.modules.setdefault("triton_python_backend_utils", sys.modules[__name__])
