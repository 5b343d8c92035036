"""Model repositories of tiny networks that have the files of the contract's models."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from sam_refine.contract import MODELS

STAND_IN = "sam_image_encoder"

BATCH_SIZE_CONFIG = """
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [
  { name: "y" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "batch_size" data_type: TYPE_INT64 dims: [ 1 ] }
]
instance_group [ { count: 1 } ]
dynamic_batching { max_queue_delay_microseconds: 300000 }
"""

ENSEMBLE_CONFIG = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
ensemble_scheduling { step [ {
  model_name: "sam_image_encoder" model_version: -1
  input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }
} ] }
"""


def network(nodes, inputs, outputs, initializers=()):
    """An ONNX model; `inputs` and `outputs` are (name, element type, shape)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*tensor) for tensor in inputs],
        [helper.make_tensor_value_info(*tensor) for tensor in outputs],
        initializers,
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def batch_size_network():
    """y = x + 1; batch_size says in each row how many rows ran together."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    return network(
        [
            helper.make_node("Add", ["x", "one"], ["y"]),
            helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
            helper.make_node("Concat", ["rows", "axis"], ["column"], axis=0),
            helper.make_node("Expand", ["rows", "column"], ["batch_size"]),
        ],
        [("x", TensorProto.FLOAT, ["N", 2])],
        [("y", TensorProto.FLOAT, ["N", 2]), ("batch_size", TensorProto.INT64, ["N", 1])],
        [one, axis],
    )


def add_model(repository: Path, name: str, config: str, model: onnx.ModelProto | None = None):
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")
    if model is not None:
        onnx.save(model, repository / name / "1" / "model.onnx")


def make_repository(path: Path) -> Path:
    """A complete model repository whose only network is `batch_size_network`."""
    for model in MODELS:
        if model.name == STAND_IN:
            add_model(path, model.name, BATCH_SIZE_CONFIG, batch_size_network())
        else:
            add_model(path, model.name, ENSEMBLE_CONFIG)
    return path
