"""A learned judge as an ONNX graph, which is all that using it needs."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from skl2onnx import to_onnx

from sam_refine.contract import SAM_MASK_JUDGE
from sam_refine_quality.tuning.learn import TreesJudge

OPSETS: Final = {"": 17, "ai.onnx.ml": 3}
IR_VERSION: Final = 9


def judge_graph(judge: TreesJudge) -> onnx.ModelProto:
    """The trees for masks and those for changes as one graph, `contract.SAM_MASK_JUDGE`."""
    nodes, inputs, outputs = [], [], []
    for trees, given, found in zip(
        (judge.masks, judge.changes), SAM_MASK_JUDGE.inputs, SAM_MASK_JUDGE.outputs, strict=True
    ):
        example = np.zeros((1, given.dims[1]), np.float32)
        (node,) = to_onnx(trees, example, target_opset=OPSETS).graph.node
        node.input[0], node.output[0], node.name = given.name, found.name, found.name
        nodes.append(node)
        float32 = onnx.TensorProto.FLOAT
        inputs.append(onnx.helper.make_tensor_value_info(given.name, float32, given.shape))
        outputs.append(onnx.helper.make_tensor_value_info(found.name, float32, found.shape))
    graph = onnx.helper.make_graph(nodes, SAM_MASK_JUDGE.name, inputs, outputs)
    opsets = [onnx.helper.make_opsetid(*each) for each in OPSETS.items()]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model
