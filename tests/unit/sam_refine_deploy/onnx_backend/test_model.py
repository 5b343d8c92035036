from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from sam_refine_deploy.onnx_backend.model import (
    InvalidInputError,
    OnnxModel,
    Request,
    RunError,
    complete_config,
)
from sam_refine_deploy.onnx_backend.options import LoadError
from support.tiny_models import batch_size_network, network


def save(model: onnx.ModelProto, directory: Path) -> Path:
    file = directory / "model.onnx"
    onnx.save(model, file)
    return file


def tensor(name, data_type, dims):
    return {"name": name, "data_type": data_type, "dims": dims}


BATCHED = {
    "max_batch_size": 8,
    "input": [tensor("x", "TYPE_FP32", [2])],
    "output": [tensor("y", "TYPE_FP32", [2]), tensor("batch_size", "TYPE_INT64", [1])],
}


@pytest.fixture
def batched(tmp_path):
    return OnnxModel(BATCHED, save(batch_size_network(), tmp_path))


# --- Where it runs --------------------------------------------------------------------------------


def test_instance_on_a_gpu_that_computes_on_the_cpu_says_so(tmp_path):
    model = OnnxModel(BATCHED, save(batch_size_network(), tmp_path), "GPU")
    assert "this onnxruntime has no CUDA" in model.warning
    assert OnnxModel(BATCHED, save(batch_size_network(), tmp_path), "CPU").warning is None


def test_cuda_that_does_not_start_is_an_error(tmp_path, monkeypatch):
    """As with onnxruntime-gpu without its libraries: the session computes on the CPU, mute."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    file = save(batch_size_network(), tmp_path)
    with pytest.raises(
        LoadError, match=r"^CUDAExecutionProvider did not start, so that model\.onnx "
    ):
        OnnxModel(BATCHED, file, "GPU")
    assert OnnxModel(BATCHED, file, "CPU").warning is None


def rows(count, value=0.0):
    return {"x": np.full((count, 2), value, np.float32)}


def reshaping_model(directory, max_batch_size):
    """Fails where `shape` does not suit the data."""
    model = network(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, ["N"]), ("shape", TensorProto.INT64, [1])],
        [("y", TensorProto.FLOAT, [None])],
    )
    config = {
        "max_batch_size": max_batch_size,
        "input": [tensor("x", "TYPE_FP32", [-1]), tensor("shape", "TYPE_INT64", [1])],
        "output": [tensor("y", "TYPE_FP32", [-1])],
    }
    return OnnxModel(config, save(model, directory))


def test_run_requests_together_and_splits(batched):
    requests = [Request(rows(n, n), ("y", "batch_size")) for n in (1, 3, 2)]
    answers = batched.run(requests)
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], request.inputs["x"] + 1)
        np.testing.assert_array_equal(answer["batch_size"], np.full((len(answer["y"]), 1), 6))


def test_run_gives_each_request_only_what_it_asked_for(batched):
    first, second = batched.run([Request(rows(1), ("y",)), Request(rows(1), ("batch_size",))])
    assert list(first) == ["y"]
    assert list(second) == ["batch_size"]


def test_run_of_no_request_is_empty(batched):
    assert batched.run([]) == []


def test_run_of_requests_that_fit_no_batch_runs_each_alone(batched):
    wrong = Request({"x": np.zeros((1, 3), np.float32)}, ("y",))
    good = Request(rows(2), ("batch_size",))
    error, answer = batched.run([wrong, good])
    assert isinstance(error, InvalidInputError)
    assert str(error).startswith("Got invalid dimensions for input: x")
    np.testing.assert_array_equal(answer["batch_size"], [[2], [2]])


def test_run_without_batch_axis_runs_each_alone(tmp_path):
    model = reshaping_model(tmp_path, 0)
    requests = [
        Request({"x": np.zeros(n, np.float32), "shape": np.array([3])}, ("y",)) for n in (3, 2)
    ]
    answer, error = model.run(requests)
    assert answer["y"].shape == (3,)
    assert isinstance(error, RunError)


def test_run_failure_is_a_sentence_without_paths_and_lines(tmp_path):
    (error,) = reshaping_model(tmp_path, 0).run(
        [Request({"x": np.zeros(2, np.float32), "shape": np.array([3])}, ("y",))]
    )
    text = str(error)
    assert "The input tensor cannot be reshaped to the requested shape" in text
    assert "ONNXRuntimeError" not in text
    assert ".h:" not in text
    assert "\n" not in text


def test_run_of_output_without_the_batch_in_it_fails_each(tmp_path):
    total = network(
        [helper.make_node("Squeeze", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["N", 1])],
        [("y", TensorProto.FLOAT, ["N", "M"])],
    )
    config = {
        "max_batch_size": 4,
        "input": [tensor("x", "TYPE_FP32", [1])],
        "output": [tensor("y", "TYPE_FP32", [-1])],
    }
    model = OnnxModel(config, save(total, tmp_path))
    request = Request({"x": np.ones((1, 1), np.float32)}, ("y",))
    alone = model.run([request])
    assert isinstance(alone[0], RunError)
    assert str(alone[0]) == "output 'y' has shape () for a batch of 1"


def test_run_scalars_go_in_and_come_out_as_one_element(tmp_path):
    scalar = network(
        [helper.make_node("Neg", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, [])],
        [("y", TensorProto.FLOAT, [])],
    )
    config = {
        "max_batch_size": 0,
        "input": [tensor("x", "TYPE_FP32", [1])],
        "output": [tensor("y", "TYPE_FP32", [1, 1])],
    }
    model = OnnxModel(config, save(scalar, tmp_path))
    (answer,) = model.run([Request({"x": np.array([2], np.float32)}, ("y",))])
    np.testing.assert_array_equal(answer["y"], [[-2]])


def test_run_text_goes_in_and_comes_out_as_bytes(tmp_path):
    text = network(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.STRING, ["N", 1])],
        [("y", TensorProto.STRING, ["N", 1])],
    )
    config = {
        "max_batch_size": 2,
        "input": [tensor("x", "TYPE_STRING", [1])],
        "output": [tensor("y", "TYPE_STRING", [1])],
    }
    model = OnnxModel(config, save(text, tmp_path))
    arrays = [np.array([["é".encode()]], np.object_), np.array([[b"\xff"]], np.object_)]
    answer, error = model.run([Request({"x": array}, ("y",)) for array in arrays])
    assert answer["y"].tolist() == [["é".encode()]]
    assert isinstance(error, InvalidInputError)
    assert str(error) == "input 'x' is not UTF-8 text"


def test_load_of_bfloat16_graph_is_refused(tmp_path):
    model = network(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.BFLOAT16, [2])],
        [("y", TensorProto.BFLOAT16, [2])],
    )
    config = {"input": [tensor("x", "TYPE_BF16", [2])], "output": []}
    with pytest.raises(LoadError, match=r"input 'x' is TYPE_BF16, in the graph tensor\(bfloat16\)"):
        OnnxModel(config, save(model, tmp_path))


def test_load_of_different_tensors_lists_each(tmp_path):
    config = BATCHED | {"input": [tensor("x", "TYPE_FP16", [3])]}
    with pytest.raises(LoadError) as error:
        OnnxModel(config, save(batch_size_network(), tmp_path))
    assert str(error.value) == (
        "configuration and model.onnx differ: input 'x' is TYPE_FP16, in the graph TYPE_FP32; "
        "input 'x' has shape [-1, 3], in the graph [-1, 2]"
    )


def test_load_of_missing_file_says_so(tmp_path):
    with pytest.raises(LoadError, match=r"^model\.onnx is missing$"):
        OnnxModel(BATCHED, tmp_path / "model.onnx")


def test_load_of_broken_file_says_so_without_its_path(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no model")
    with pytest.raises(LoadError, match=r"^model\.onnx cannot be loaded: ") as error:
        OnnxModel(BATCHED, file)
    assert str(tmp_path) not in str(error.value)


def test_load_of_folder_takes_the_model_in_it(tmp_path):
    save(batch_size_network(), tmp_path)
    assert OnnxModel(BATCHED, tmp_path).summary.startswith("CPUExecutionProvider")


def test_load_of_what_only_the_cpp_backend_can_do_names_it(tmp_path):
    config = BATCHED | {"sequence_batching": {"direct": {}}}
    with pytest.raises(LoadError, match="sequence_batching: only Triton's C\\+\\+ onnxruntime"):
        OnnxModel(config, save(batch_size_network(), tmp_path))


def test_complete_config_reads_no_file_where_nothing_is_missing():
    assert complete_config(BATCHED, Path("/no/such/model.onnx")) == {}


def test_complete_config_describes_the_graph(tmp_path):
    completion = complete_config({"max_batch_size": 0}, save(batch_size_network(), tmp_path))
    assert completion == {
        "max_batch_size": 4,
        "input": BATCHED["input"],
        "output": BATCHED["output"],
    }
