from __future__ import annotations

import pytest

from sam_refine_deploy.onnx_backend.tensors import (
    Graph,
    GraphTensor,
    completed,
    differences,
    unsupported_features,
)

GRAPH = Graph(
    inputs=(GraphTensor("x", "TYPE_FP32", (-1, -1, 3)),),
    outputs=(GraphTensor("y", "TYPE_INT64", (-1, 4)),),
    initializers=(GraphTensor("weight", "TYPE_FP32", (3,)),),
)


def tensor(name="x", data_type="TYPE_FP32", dims=(-1, 3), **more):
    return {"name": name, "data_type": data_type, "dims": list(dims), **more}


X = tensor()
Y = tensor("y", "TYPE_INT64", [4])


def config(inputs=(X,), outputs=(Y,), max_batch_size=8):
    return {"max_batch_size": max_batch_size, "input": inputs, "output": outputs}


def test_differences_of_equal_tensors_are_none():
    assert differences(config(), GRAPH) == []


def test_differences_without_batch_axis_compare_whole_shapes():
    whole = config([tensor(dims=(2, -1, 3))], [tensor("y", "TYPE_INT64", (-1, 4))], 0)
    assert differences(whole, GRAPH) == []
    assert differences(whole | {"max_batch_size": 1}, GRAPH) == [
        "input 'x' has shape [-1, 2, -1, 3], in the graph [-1, -1, 3]",
        "output 'y' has shape [-1, -1, 4], in the graph [-1, 4]",
    ]


def test_differences_input_may_fix_what_varies_in_the_graph():
    assert differences(config([tensor(dims=(7, 3))]), GRAPH) == []


def test_differences_output_may_not_vary_where_the_graph_is_fixed():
    assert differences(config(outputs=[tensor("y", "TYPE_INT64", [-1])]), GRAPH) == [
        "output 'y' has shape [-1, -1], in the graph [-1, 4]"
    ]


def test_differences_graph_with_fixed_first_axis_has_no_batch():
    graph = Graph((GraphTensor("x", "TYPE_FP32", (1, 3)),), ())
    assert differences(config([tensor(dims=[3])], ()), graph) == [
        "input 'x' has shape [-1, 3], in the graph [1, 3]"
    ]


def test_differences_are_all_listed():
    wrong = config([tensor("X"), tensor("z")], [tensor("y", "TYPE_INT32", [5]), tensor("q")])
    assert differences(wrong, GRAPH) == [
        "input 'X' is not in the graph, which has x",
        "input 'z' is not in the graph, which has x",
        "output 'y' is TYPE_INT32, in the graph TYPE_INT64",
        "output 'y' has shape [-1, 5], in the graph [-1, 4]",
        "output 'q' is not in the graph, which has y",
        "input 'x' of the graph is not in the configuration",
    ]


def test_differences_configuration_may_leave_out_an_output():
    assert differences(config(outputs=()), GRAPH) == []


def test_differences_compare_the_shape_after_a_reshape():
    reshaped = tensor(dims=[6], reshape={"shape": [2, 3]})
    assert differences(config([reshaped]), GRAPH) == []


def test_differences_scalar_of_the_graph_is_ones_in_the_configuration():
    graph = Graph((GraphTensor("x", "TYPE_FP32", ()),), ())
    assert differences(config([tensor(dims=[1])], (), 0), graph) == []
    assert differences(config([tensor(dims=[2])], (), 0), graph) == [
        "input 'x' has shape [2], in the graph []"
    ]


def test_differences_optional_input_is_a_weight_of_an_unbatched_graph():
    weight = tensor("weight", dims=[3], optional=True)
    unbatched = config([tensor(dims=(-1, -1, 3)), weight], (), 0)
    assert differences(unbatched, GRAPH) == []
    assert "input 'weight' is optional, which a batched model cannot have" in differences(
        unbatched | {"max_batch_size": 1}, GRAPH
    )


@pytest.mark.parametrize("data_type", ["TYPE_BF16", "TYPE_FP32"])
def test_differences_bfloat16_cannot_be_served(data_type):
    graph = Graph((GraphTensor("x", "tensor(bfloat16)", (-1,)),), ())
    assert differences(config([tensor("x", data_type, [-1])], (), 0), graph) == [
        f"input 'x' is {data_type}, in the graph tensor(bfloat16)"
    ]


def test_completed_of_complete_configuration_is_nothing():
    assert completed(config(), GRAPH) == {}


def test_completed_of_empty_configuration_is_the_batched_graph():
    assert completed({"max_batch_size": 0, "input": [], "output": []}, GRAPH) == {
        "max_batch_size": 4,
        "input": [tensor()],
        "output": [tensor("y", "TYPE_INT64", [4])],
    }


def test_completed_keeps_batch_size_and_what_is_given():
    assert completed({"max_batch_size": 2, "input": [X]}, GRAPH) == {"output": [Y]}


def test_completed_of_graph_without_batch_axis_has_whole_shapes():
    graph = Graph((GraphTensor("x", "TYPE_FP32", (2, -1)),), (GraphTensor("y", "TYPE_BOOL", ()),))
    assert completed({}, graph) == {
        "input": [tensor(dims=(2, -1))],
        "output": [tensor("y", "TYPE_BOOL", [1])],
    }


def test_unsupported_features_of_plain_configuration_are_none():
    plain = config() | {"batch_input": [], "batch_output": []}
    assert unsupported_features(plain) == []


def test_unsupported_features_are_all_named():
    features = config([tensor(allow_ragged_batch=True)])
    features |= {"batch_input": [{}], "batch_output": [{}], "sequence_batching": {"direct": {}}}
    assert unsupported_features(features) == [
        "batch_input",
        "batch_output",
        "allow_ragged_batch of input 'x'",
        "sequence_batching",
    ]
