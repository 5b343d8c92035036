"""Model repositories of tiny networks that have the files of the contract's models."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from sam_refine.contract import MODELS, SAM_MASK_JUDGE, SAM_REFINE
from sam_refine_export import add_judge

ROOT = Path(__file__).parents[2]
CONFIG = "config.pbtxt"
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
dynamic_batching { preferred_batch_size: [ 6 ] max_queue_delay_microseconds: 300000 }
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

ZEROS_MODEL = """
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        height, width, _ = pb.get_input_tensor_by_name(request, "IMAGE").as_numpy().shape
        outputs = {
            "REFINED_LABELS_UINT8": np.zeros((height, width), np.uint8),
            "STAGE_TIMES_MS": np.zeros(7, np.float32),
        }
        return pb.InferenceResponse([pb.Tensor(*output) for output in outputs.items()])
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


def judge_network():
    """A judge that foretells of each row what stands in its first column."""
    first = helper.make_tensor("first", TensorProto.INT64, [1], [0])
    (masks, changes), (mask_gains, change_gains) = (
        [(tensor.name, TensorProto.FLOAT, tensor.shape) for tensor in tensors]
        for tensors in (SAM_MASK_JUDGE.inputs, SAM_MASK_JUDGE.outputs)
    )
    return network(
        [
            helper.make_node("Gather", [features[0], "first"], [gains[0]], axis=1)
            for features, gains in ((masks, mask_gains), (changes, change_gains))
        ],
        [masks, changes],
        [mask_gains, change_gains],
        [first],
    )


def with_judge(repository: Path, folder: Path) -> Path:
    """A copy of an exported repository, in `folder`, to which `judge_network` was added."""
    copy = folder / "judged"
    shutil.copytree(repository, copy)
    (folder / "judge").mkdir()
    onnx.save(judge_network(), folder / "judge" / "judge.onnx")
    add_judge(copy, folder / "judge")
    return copy


def add_model(repository: Path, name: str, config: str, model: onnx.ModelProto | None = None):
    (repository / name / "1").mkdir(parents=True)
    (repository / name / CONFIG).write_text(config, encoding="utf-8")
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


def hold_back(repository: Path, model: str, seconds: int) -> None:
    """Make the batcher wait so long for a batch of its preferred size."""
    config = repository / model / CONFIG
    text = config.read_text(encoding="utf-8")
    assert "microseconds: 300000" in text
    config.write_text(
        text.replace("microseconds: 300000", f"microseconds: {seconds * 1_000_000}"),
        encoding="utf-8",
    )


def replace_by_zeros(repository: Path) -> None:
    """Make `sam_refine` answer with labels that are all 0."""
    model = repository / SAM_REFINE.name
    shutil.copyfile(ROOT / "model_repository" / SAM_REFINE.name / CONFIG, model / CONFIG)
    (model / "1" / "model.py").write_text(ZEROS_MODEL, encoding="utf-8")
