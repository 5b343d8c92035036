"""The backend's `model.py` on the side that Triton calls; Triton's own side is recorded."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from sam_refine_deploy.launcher.backend_directory import ONNXRUNTIME_BACKEND
from support.tiny_models import batch_size_network

CONFIG = {
    "max_batch_size": 8,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}],
    "output": [{"name": "batch_size", "data_type": "TYPE_INT64", "dims": [1]}],
}


class Tensor:
    def __init__(self, name, array):
        self._name, self._array = name, array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array


class TritonError(Exception):
    INVALID_ARG, INTERNAL, CANCELLED = "INVALID_ARG", "INTERNAL", "CANCELLED"


class Request:
    def __init__(self, array, *, cancelled=False):
        self._array, self._cancelled = array, cancelled

    def is_cancelled(self):
        return self._cancelled

    def inputs(self):
        return [Tensor("x", self._array)]

    def requested_output_names(self):
        return ["batch_size"]


def response(outputs=(), error=None):
    if error is not None:
        return error.args
    return {tensor.name(): tensor.as_numpy().tolist() for tensor in outputs}


@pytest.fixture
def log():
    return []


@pytest.fixture
def backend(monkeypatch, log):
    """The backend's module, with what Triton would bring."""
    triton = SimpleNamespace(
        Tensor=Tensor,
        TritonError=TritonError,
        InferenceResponse=response,
        Logger=SimpleNamespace(log_info=log.append, log_error=log.append),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    spec = importlib.util.spec_from_file_location("model", ONNXRUNTIME_BACKEND / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / "1").mkdir()
    onnx.save(batch_size_network(), tmp_path / "1" / "model.onnx")
    return {
        "model_config": json.dumps(CONFIG),
        "model_repository": str(tmp_path),
        "model_version": "1",
        "model_instance_name": "tiny_0_0",
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }


@pytest.fixture
def model(backend, arguments):
    model = backend.TritonPythonModel()
    model.initialize(arguments)
    return model


ONE_ROW = np.zeros((1, 2), np.float32)


def test_initialize_logs_providers_and_threads(model, log):
    assert len(log) == 1
    assert log[0].startswith("tiny_0_0 runs on CPUExecutionProvider; ")
    assert log[0].endswith(" threads within an operator")


def test_initialize_under_numpy_2_is_refused(backend, arguments, monkeypatch):
    monkeypatch.setattr("numpy.__version__", "2.1.0")
    with pytest.raises(RuntimeError, match=r"corrupts tensors with numpy 2.*this is numpy 2\.1\.0"):
        backend.TritonPythonModel().initialize(arguments)


def test_execute_answers_a_cancelled_request_without_running_it(model):
    requests = [Request(ONE_ROW), Request(ONE_ROW, cancelled=True), Request(ONE_ROW)]
    assert model.execute(requests) == [
        {"batch_size": [[2]]},
        ("the request was cancelled", "CANCELLED"),
        {"batch_size": [[2]]},
    ]


def test_execute_answers_invalid_input_by_itself(model):
    bad, good = model.execute([Request(np.zeros((1, 3), np.float32)), Request(ONE_ROW)])
    assert bad[1] == "INVALID_ARG"
    assert good == {"batch_size": [[1]]}


def test_execute_that_breaks_logs_why_and_tells_callers_little(model, log):
    broken = Request(None)
    want = ("internal error; the server's log has it", "INTERNAL")
    assert model.execute([broken, Request(ONE_ROW)]) == [want, want]
    assert "Traceback" in log[-1]
