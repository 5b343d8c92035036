from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from sam_refine_benchmarks.measuring import operations
from sam_refine_benchmarks.measuring.pairs import Timing


@pytest.mark.parametrize(
    ("kind", "attributes", "first", "second", "output", "count"),
    [
        ("MatMul", {}, (5, 2, 3), (3, 4), (5, 2, 4), 5 * 2 * 3 * 4),
        ("Gemm", {}, (2, 3), (3, 4), (2, 4), 2 * 3 * 4),
        ("Gemm", {"transA": 1, "transB": 1}, (3, 2), (4, 3), (2, 4), 2 * 3 * 4),
        ("Conv", {}, (1, 3, 8, 8), (6, 3, 2, 2), (1, 6, 7, 7), 49 * 6 * 3 * 4),
        ("Conv", {"group": 6}, (1, 6, 8, 8), (6, 1, 3, 3), (1, 6, 6, 6), 36 * 6 * 9),
        ("ConvTranspose", {}, (1, 3, 4, 4), (3, 6, 2, 2), (1, 6, 8, 8), 16 * 3 * 6 * 4),
    ],
)
def test_multiply_adds_of_each_kind_of_node(kind, attributes, first, second, output, count):
    node = helper.make_node(kind, ["a", "b"], ["c"], **attributes)
    assert operations.multiply_adds(node, {"a": first, "b": second, "c": output}) == count


def test_count_multiply_adds_of_a_graph_with_free_axes_uses_the_shapes_of_the_feeds(tmp_path):
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["a", "b"], ["product"]),
            helper.make_node("Relu", ["product"], ["positive"]),
            helper.make_node("MatMul", ["positive", "b"], ["c"]),
        ],
        "two products",
        [
            helper.make_tensor_value_info("a", floats, ["N", 4]),
            helper.make_tensor_value_info("b", floats, [4, 4]),
        ],
        [helper.make_tensor_value_info("c", floats, ["N", 4])],
    )
    opset = helper.make_opsetid("", 20)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "graph.onnx")
    feeds = {"a": np.ones((7, 4), np.float32), "b": np.ones((4, 4), np.float32)}
    assert operations.count_multiply_adds(tmp_path / "graph.onnx", feeds) == 2 * 7 * 4 * 4


def test_limit_of_as_many_multiply_adds_as_the_product_is_its_time():
    product = Timing(((0.5,), (0.5,)))
    assert operations.limit_s(operations.PRODUCT_SIDE**3, product) == 0.5
    assert operations.gigaflops(product) == pytest.approx(4 * operations.PRODUCT_SIDE**3 / 1e9)
