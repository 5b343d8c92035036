"""The python-based onnxruntime backend inside a real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from support.fake_triton import PATIENCE_S
from support.tiny_models import (
    BATCH_SIZE_CONFIG,
    STAND_IN,
    add_model,
    batch_size_network,
    hold_back,
    network,
)

pytestmark = pytest.mark.triton

DATATYPES = {
    "BOOL": (TensorProto.BOOL, np.array([True, False])),
    "UINT8": (TensorProto.UINT8, np.array([0, 255], np.uint8)),
    "INT64": (TensorProto.INT64, np.array([-(2**63), 2**63 - 1])),
    "FP16": (TensorProto.FLOAT16, np.array([-0.5, 65504], np.float16)),
    "FP32": (TensorProto.FLOAT, np.array([np.nan, -np.inf], np.float32)),
    "STRING": (TensorProto.STRING, np.array(["", "größer"], np.object_)),
}
PICK_CONFIG = """
backend: "onnxruntime"
max_batch_size: 8
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 3 ] },
  { name: "index" data_type: TYPE_INT64 dims: [ 1 ] }
]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { count: 1 } ]
dynamic_batching { preferred_batch_size: [ 3 ] max_queue_delay_microseconds: 300000 }
"""
SQUARE_CONFIG = """
backend: "onnxruntime"
max_batch_size: 4
default_model_filename: "square.onnx"
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]
instance_group [ { count: 1 } ]
parameters [
  { key: "intra_op_thread_count" value { string_value: "1" } },
  { key: "memory.enable_memory_arena_shrinkage" value { string_value: "cpu:0" } }
]
optimization { graph { level: -1 } }
"""


def add_models(repository: Path) -> None:
    add_model(repository, "datatypes", 'backend: "onnxruntime"', datatypes_network())
    pick = network(
        [helper.make_node("GatherElements", ["x", "index"], ["y"], axis=1)],
        [("x", TensorProto.FLOAT, ["N", 3]), ("index", TensorProto.INT64, ["N", 1])],
        [("y", TensorProto.FLOAT, ["N", 1])],
    )
    add_model(repository, "together", BATCH_SIZE_CONFIG, batch_size_network())
    hold_back(repository, "together", seconds=PATIENCE_S)
    add_model(repository, "pick", PICK_CONFIG, pick)
    square = network(
        [helper.make_node("Mul", ["x", "x"], ["y"])],
        [("x", TensorProto.FLOAT, ["N"])],
        [("y", TensorProto.FLOAT, ["N"])],
    )
    add_model(repository, "square", SQUARE_CONFIG, square)
    (repository / "square/1/model.onnx").rename(repository / "square/1/square.onnx")


def datatypes_network():
    """Each input comes back; no batch axis, so that the graph says all of the configuration."""
    return network(
        [helper.make_node("Identity", [name], [f"{name}_OUT"]) for name in DATATYPES],
        [(name, element_type, [2]) for name, (element_type, _) in DATATYPES.items()],
        [(f"{name}_OUT", element_type, [2]) for name, (element_type, _) in DATATYPES.items()],
    )


def infer(client, model, inputs, outputs):
    tensors = []
    for name, array in inputs.items():
        tensor = grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensors.append(tensor.set_data_from_numpy(array))
    wanted = [grpc.InferRequestedOutput(name) for name in outputs]
    return client.infer(model, tensors, outputs=wanted, client_timeout=2 * PATIENCE_S)


def test_infer_every_datatype_comes_back_unchanged(client):
    inputs = {name: array for name, (_, array) in DATATYPES.items()}
    result = infer(client, "datatypes", inputs, [f"{name}_OUT" for name in DATATYPES])
    for name, array in inputs.items():
        got = result.as_numpy(f"{name}_OUT")
        want = np.array([text.encode() for text in array]) if name == "STRING" else array
        np.testing.assert_array_equal(got, want)
        assert name == "STRING" or got.dtype == array.dtype


def test_infer_text_that_is_not_utf8_is_invalid(client):
    inputs = {name: array for name, (_, array) in DATATYPES.items()}
    inputs["STRING"] = np.array([b"\xff", b""], np.object_)
    with pytest.raises(InferenceServerException, match="input 'STRING' is not UTF-8") as error:
        infer(client, "datatypes", inputs, ["BOOL_OUT"])
    assert error.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_config_without_tensors_is_completed_from_the_graph(client):
    config = client.get_model_config("datatypes", as_json=True)["config"]
    described = {
        tensor["name"]: (tensor["data_type"], tensor["dims"]) for tensor in config["input"]
    }
    assert described == {name: (f"TYPE_{name}", ["2"]) for name in DATATYPES}
    assert "max_batch_size" not in config


def test_config_that_is_complete_stays_as_it_is(client):
    config = client.get_model_config("square", as_json=True)["config"]
    assert config["max_batch_size"] == 4
    assert config["input"][0]["reshape"] == {}


def test_infer_only_the_requested_output_is_sent(client):
    x = np.zeros((1, 2), np.float32)
    response = infer(client, STAND_IN, {"x": x}, ["y"]).get_response()
    assert [output.name for output in response.outputs] == ["y"]


def test_infer_concurrent_requests_run_as_one_batch_and_are_split(client):
    arrays = [np.full((rows, 2), rows, np.float32) for rows in (1, 2, 3)]
    with ThreadPoolExecutor() as pool:
        results = list(
            pool.map(lambda x: infer(client, "together", {"x": x}, ["y", "batch_size"]), arrays)
        )
    for x, result in zip(arrays, results, strict=True):
        np.testing.assert_array_equal(result.as_numpy("y"), x + 1)
        np.testing.assert_array_equal(result.as_numpy("batch_size"), np.full((len(x), 1), 6))


def test_infer_one_bad_request_of_a_batch_fails_alone_and_briefly(client):
    x = np.array([[10, 20, 30]], np.float32)

    def pick(index):
        try:
            inputs = {"x": x, "index": np.array([[index]])}
            return infer(client, "pick", inputs, ["y"]).as_numpy("y").item()
        except InferenceServerException as error:
            return error

    with ThreadPoolExecutor() as pool:
        first, bad, last = pool.map(pick, [0, 7, 2])
    assert (first, last) == (10, 30)
    assert "index" in bad.message()
    assert "Traceback" not in bad.message()
    assert "onnxruntime" not in bad.message()
    assert len(bad.message()) < 300
    assert pick(1) == 20


def test_infer_reshaped_scalars_of_a_batch(client):
    x = np.array([[2], [3]], np.float32)
    np.testing.assert_array_equal(infer(client, "square", {"x": x}, ["y"]).as_numpy("y"), x**2)


def test_ensemble_over_the_backend_works(client):
    x = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(infer(client, "sam_embed", {"x": x}, ["y"]).as_numpy("y"), x + 1)
