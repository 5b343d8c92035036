"""Runs an ONNX file for Triton: loads it as configured, and answers requests in batches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from sam_refine.contract.serving.gpu import (
    GPU_PROVIDERS,
    load_cuda_libraries,
    why_not_on_gpu,
)
from sam_refine_deploy.onnx_backend.options import (
    LoadError,
    execution_providers,
    run_options,
    session_options,
)
from sam_refine_deploy.onnx_backend.tensors import (
    Config,
    Graph,
    completed,
    differences,
    unsupported_features,
)

Arrays = Mapping[str, npt.NDArray[Any]]


class RunError(Exception):
    """A request cannot be answered: one sentence that callers may read."""


class InvalidInputError(RunError):
    """The request itself is wrong."""


@dataclass(frozen=True)
class Request:
    """One caller's inputs, and the names of the outputs that are wanted."""

    inputs: Arrays
    outputs: tuple[str, ...]


class OnnxModel:
    """One instance of a model; with max_batch_size > 0, every tensor's first axis is the batch."""

    def __init__(self, config: Config, file: Path, kind: str = "CPU", device_id: int = 0) -> None:
        """Load `file` for an instance of `kind` "CPU" or "GPU".

        Raises `LoadError` for a value of the configuration that is unknown or not supported here,
        for tensors that differ from the graph's (it names each), and for a file that is no model.
        """
        unsupported = unsupported_features(config)
        if unsupported:
            raise LoadError(
                f"{', '.join(unsupported)}: only Triton's C++ onnxruntime backend supports that"
            )
        options = session_options(config)
        available = ort.get_available_providers()
        providers = execution_providers(config, kind, device_id, available)
        self._session = _session(file, options, providers)
        used = self._session.get_providers()
        self.warning = why_not_on_gpu(used, available, is_here=True) if kind == "GPU" else None
        """Why it does not use the GPU that it was given; None where it does, or was given none."""
        missing = [name for name, _ in providers if name not in used]
        if missing:
            raise LoadError(
                f"{', '.join(missing)} did not start, so that {file.name} would run on "
                f"{', '.join(used)}: {self.warning or 'the log says why'}"
            )
        self._run_options = run_options(config)
        self._batched = config.get("max_batch_size", 0) > 0
        graph = Graph.of_session(self._session)
        found = differences(config, graph)
        if found:
            raise LoadError(f"configuration and {file.name} differ: {'; '.join(found)}")
        self._input_ranks = {
            tensor.name: len(tensor.dims) for tensor in (*graph.inputs, *graph.initializers)
        }
        scalars = [tensor.name for tensor in graph.outputs if not tensor.dims]
        self._scalar_dims = {
            entry["name"]: tuple(map(int, entry["dims"]))
            for entry in config.get("output", ())
            if entry["name"] in scalars
        }
        self.summary = (
            f"{', '.join(self._session.get_providers())}; "
            f"{options.intra_op_num_threads} threads within an operator"
        )
        """What it runs on, to be logged."""

    def run(self, requests: Sequence[Request]) -> list[Arrays | RunError]:
        """One answer for each request, in order: its outputs, or why there are none.

        Requests of a batched model run together; if that fails, each runs alone, so that only the
        bad one fails.
        """
        if self._batched and len(requests) > 1:
            try:
                return list(self._run_together(requests))
            except RunError:
                pass
        return [self._run_alone(request) for request in requests]

    def _run_together(self, requests: Sequence[Request]) -> list[Arrays]:
        names = list(requests[0].inputs)
        sizes = [len(request.inputs[names[0]]) for request in requests]
        wanted = tuple(dict.fromkeys(name for request in requests for name in request.outputs))
        try:
            inputs = {
                name: np.concatenate([request.inputs[name] for request in requests])
                for name in names
            }
        except (KeyError, ValueError) as error:
            raise RunError("the requests do not fit into one batch") from error
        outputs = self._run(Request(inputs, wanted))
        ends = np.cumsum(sizes)[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        return [
            {name: parts[name][index] for name in request.outputs}
            for index, request in enumerate(requests)
        ]

    def _run_alone(self, request: Request) -> Arrays | RunError:
        try:
            return self._run(request)
        except RunError as error:
            return error

    def _run(self, request: Request) -> Arrays:
        inputs = {name: self._to_onnx(name, array) for name, array in request.inputs.items()}
        try:
            arrays = self._session.run(list(request.outputs), inputs, self._run_options)
        except InvalidArgument as error:
            raise InvalidInputError(_sentence(error)) from error
        except Exception as error:  # ONNX Runtime's errors have no common base class
            bound = _BOUND.search(str(error))
            if bound:
                raise InvalidInputError(bound[1]) from error
            raise RunError(_sentence(error)) from error
        outputs = dict(zip(request.outputs, arrays, strict=True))
        if self._batched:
            _check_batch(outputs, request.inputs)
        return {name: self._to_triton(name, array) for name, array in outputs.items()}

    def _to_onnx(self, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Strings come from Triton as bytes, and a scalar as one element."""
        if array.dtype == np.object_:
            try:
                texts = [bytes(item).decode() for item in array.flat]
            except UnicodeDecodeError as error:
                raise InvalidInputError(f"input {name!r} is not UTF-8 text") from error
            array = np.array(texts, np.object_).reshape(array.shape)
        return array if self._input_ranks[name] else array.reshape(())

    def _to_triton(self, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if array.dtype == np.object_:
            texts = [str(item).encode() for item in array.flat]
            array = np.array(texts, np.object_).reshape(array.shape)
        return array.reshape(self._scalar_dims.get(name, array.shape))


def complete_config(config: Config, file: Path) -> dict[str, Any]:
    """What `completed` adds to `config`; `file` is read only if something is missing."""
    if config.get("input") and config.get("output"):
        return {}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = _session(file, options, [("CPUExecutionProvider", {})])
    return completed(config, Graph.of_session(session))


def _session(file: Path, options: ort.SessionOptions, providers: Any) -> ort.InferenceSession:
    if file.is_dir():
        file = file / "model.onnx"
    if not file.is_file():
        raise LoadError(f"{file.name} is missing")
    if any(name in GPU_PROVIDERS for name, _ in providers):
        load_cuda_libraries(ort)
    try:
        return ort.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common base class
        raise LoadError(f"{file.name} cannot be loaded: {_sentence(error)}") from error


def _check_batch(outputs: Arrays, inputs: Arrays) -> None:
    """Every row of the inputs must have its row in each output."""
    size = len(next(iter(inputs.values())))
    for name, array in outputs.items():
        if array.shape[:1] != (size,):
            raise RunError(f"output {name!r} has shape {array.shape} for a batch of {size}")


def _sentence(error: Exception) -> str:
    """ONNX Runtime's text without its status, file paths and places in its source code."""
    text = " ".join(str(error).split())
    for unwanted in (_STATUS, _MODEL_PATH, _SOURCE_PLACE):
        text = unwanted.sub("", text)
    return text


_BOUND = re.compile(r"Name:'([^']* must be [^']*)'")
"""The name of a node in which a graph checks its inputs (sam_refine_export.graphs.bounds)."""
_STATUS = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_MODEL_PATH = re.compile(r"Load model from \S+ failed: ?")
_SOURCE_PLACE = re.compile(r"/\S+\.(?:cc|h|cpp|cu|hpp):\d+ .*?\)(?: \[with [^]]*\])? ")
