"""How fast a graph could be here: its multiply-adds at the rate of a large matrix product."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from sam_refine_benchmarks.measuring.machine import available_cores
from sam_refine_benchmarks.measuring.pairs import Timing

PRODUCT_SIDE: Final = 2048
_COUNTED: Final = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_OPSET: Final = 20
_IR_VERSION: Final = 9

Shapes = Mapping[str, tuple[int, ...]]
Feeds = Mapping[str, npt.NDArray[Any]]


def session(model: Path | bytes, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU with one thread per available core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def count_multiply_adds(path: Path, feeds: Feeds) -> int:
    """Multiply-adds of all matrix products and convolutions of a graph on these inputs.

    The graph is run once, with the shapes around those nodes as its outputs: what shape inference
    leaves open is known then.
    """
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type in _COUNTED]
    names = sorted({name for node in nodes for name in (*node.input[:2], node.output[0])})
    del model.graph.output[:]
    for name in names:
        model.graph.node.append(helper.make_node("Shape", [name], [f"{name}:shape"]))
        model.graph.output.append(
            helper.make_tensor_value_info(f"{name}:shape", TensorProto.INT64, None)
        )
    outputs = session(model.SerializeToString(), optimised=False).run(None, dict(feeds))
    shapes = {
        name: tuple(int(size) for size in shape) for name, shape in zip(names, outputs, strict=True)
    }
    return sum(multiply_adds(node, shapes) for node in nodes)


def multiply_adds(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Multiply-adds of one node of a counted kind; biases do not count."""
    first, second, output = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type == "MatMul":
        return math.prod(output) * first[-1]
    if node.op_type == "Gemm":
        transposed = any(each.name == "transA" and each.i for each in node.attribute)
        return math.prod(output) * first[0 if transposed else 1]
    # Kernels are (out, in / groups, ...) and, transposed, (in, out / groups, ...).
    places = output if node.op_type == "Conv" else first
    return math.prod(places) * math.prod(second[1:])


def matrix_product() -> Callable[[], object]:
    """A float32 product of two squares of 2048 in ONNX Runtime, to be timed."""
    side = PRODUCT_SIDE
    a, b, c = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in "abc"
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [a, b], [c]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    product = session(model.SerializeToString())
    random = np.random.default_rng(0)
    feeds = {name: random.random((side, side), np.float32) for name in "ab"}
    return lambda: product.run(None, feeds)


def limit_s(count: int, product: Timing) -> float:
    """Seconds that `count` multiply-adds take at the rate of the timed `matrix_product`."""
    return count * product.median_s / PRODUCT_SIDE**3


def gigaflops(product: Timing) -> float:
    """1e9 floating point operations per second of the timed `matrix_product`."""
    return 2 * PRODUCT_SIDE**3 / product.median_s / 1e9
