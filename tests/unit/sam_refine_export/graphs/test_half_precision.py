import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER
from sam_refine_export import ExportError
from sam_refine_export.graphs import half_precision
from sam_refine_export.graphs.half_precision import (
    HalfPrecision,
    convert,
    measure_ranges,
    session_with_real_rounding,
)
from sam_refine_export.graphs.samples import DECODER_CASES
from sam_refine_export.repository.repository import DECODER_ONNX, ENCODER_ONNX
from sam_refine_export.validation.validate import check_interface

X = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
SQUARE = np.random.default_rng(1).normal(size=(32, 32)).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """write(nodes, outputs="float[N, 32] y", **parameters) -> path of a graph with the input x."""

    def write(nodes, outputs="float[N, 32] y", **parameters):
        text = f"g (float[N, 32] x) => ({outputs}) {{ {nodes} }}"
        model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]> {text}')
        for name, array in parameters.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        path = tmp_path / "float32.onnx"
        onnx.save(model, path)
        return path

    return write


@pytest.fixture
def convert_as_measured(tmp_path):
    """convert_as_measured(path, x=X) -> the converted graph's path, the report."""

    def convert_as_measured(path, x=X):
        output = tmp_path / "float16.onnx"
        return output, convert(path, output, measure_ranges(path, [{"x": x}]))

    return convert_as_measured


def operators(path):
    """What a graph's nodes do, in order; casts by what they cast to."""
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(path, full_check=True)
    casts = {TensorProto.FLOAT: "to32", TensorProto.FLOAT16: "to16", TensorProto.INT64: "to_int"}
    return " ".join(
        casts[node.attribute[0].i] if node.op_type == "Cast" else node.op_type
        for node in model.graph.node
    )


def parameters(path):
    return {p.name: numpy_helper.to_array(p) for p in onnx.load(path).graph.initializer}


def run(session, x=X):
    return session.run(None, {"x": x})


def cpu_session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_convert_products_and_biases_are_in_float16_and_the_rest_is_not(write, convert_as_measured):
    path = write(
        "a = MatMul(x, w) b = Add(a, bias) c = Gelu(b) y = MatMul(c, w)",
        w=SQUARE,
        bias=X[0],
    )
    converted, report = convert_as_measured(path)
    assert operators(converted) == "to16 MatMul Add to32 Gelu to16 MatMul to32"
    assert {p.dtype.name for p in parameters(converted).values()} == {"float16"}
    assert report.float16_nodes == 3
    assert report.float32_nodes == {}
    (expected,), (found,) = run(cpu_session(path)), run(session_with_real_rounding(converted))
    assert report.largest_value == pytest.approx(np.abs(expected).max())
    assert 0 < np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


def test_convert_interface_and_versions_stay(write, convert_as_measured):
    path = write("y = MatMul(x, w) z = Relu(y)", "float[N, 32] y, float[N, 32] z", w=SQUARE)
    converted, _ = convert_as_measured(path)
    before, after = onnx.load(path), onnx.load(converted)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert after.ir_version == 9
    assert after.opset_import == before.opset_import
    assert not after.metadata_props


def test_convert_tensor_of_several_products_is_cast_once(write, convert_as_measured):
    path = write("a = Gelu(x) b = MatMul(a, w) c = MatMul(a, v) y = Add(b, c)", w=SQUARE, v=SQUARE)
    converted, _ = convert_as_measured(path)
    assert operators(converted) == "Gelu to16 MatMul to32 MatMul to32 Add"


def test_convert_moves_between_products_are_in_float16(write, convert_as_measured):
    path = write(
        """a = MatMul(x, w) b = Reshape(a, heads) c = Transpose <perm = [1, 0, 2]> (b)
        q, k = Split <num_outputs = 2> (c) l = Transpose <perm = [0, 2, 1]> (k)
        m = MatMul(q, l) n = Softmax(m) o = MatMul(n, k) y = Reshape(o, rows)""",
        w=np.tile(SQUARE, (1, 2)),
        heads=np.array([0, 4, 16]),
        rows=np.array([-1, 32]),
    )
    assert operators(convert_as_measured(path)[0]) == (
        "to16 MatMul Reshape Transpose Split Transpose MatMul to32 Softmax to16 MatMul Reshape to32"
    )


def test_convert_move_to_products_only_comes_after_the_cast(write, convert_as_measured):
    path = write(
        "a = Concat <axis = 0> (x, x) b = Pad(a, pads) c = MatMul(b, w) d = Gelu(a) y = Add(c, d)",
        w=SQUARE,
        pads=np.zeros(4, np.int64),
    )
    assert operators(convert_as_measured(path)[0]) == "Concat to16 Pad MatMul to32 Gelu Add"


def test_convert_parameter_of_both_types_is_right_for_each(write, convert_as_measured):
    w = SQUARE.copy()
    w[0, 0] = 1.0007
    path = write("a = MatMul(x, w) b = ReduceSum(w) y = Mul(a, b)", w=w)
    converted, _ = convert_as_measured(path)
    assert parameters(converted).keys() == {"w", "w.half"}
    np.testing.assert_array_equal(parameters(converted)["w"], w)
    np.testing.assert_array_equal(parameters(converted)["w.half"], w.astype(np.float16))


def test_convert_parameters_are_rounded_to_nearest(write, convert_as_measured):
    w = SQUARE.copy()
    w[0, :6] = [0.0, -0.0, 1e-9, -4e-8, 1.0007, -8000.9]
    converted, _ = convert_as_measured(write("y = MatMul(x, w)", w=w))
    found = parameters(converted)["w"][0, :6]
    assert found.tolist() == [0, 0, 0, -(2.0**-24), 1 + 2.0**-10, -8000]
    assert np.signbit(found).tolist() == [False, True, False, True, False, True]


def test_convert_large_values_stay_in_float32(write, convert_as_measured):
    path = write(
        "a = MatMul(x, w) b = MatMul(a, v) c = Add(b, bias) y = MatMul(c, w)",
        w=SQUARE,
        v=SQUARE * 9000,
        bias=X[0],
    )
    converted, report = convert_as_measured(path)
    assert operators(converted) == "to16 MatMul to32 MatMul Add MatMul"
    assert report.float16_nodes == 1
    assert report.float32_nodes.keys() == {"b", "c", "y"}
    assert report.largest_value == max(report.float32_nodes.values()) > 65504
    (expected,), (found,) = run(cpu_session(path)), run(session_with_real_rounding(converted))
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("largest", "is_half"), [(8187.9, True), (8188.0, False), (math.nan, False)]
)
def test_convert_headroom_is_kept(write, tmp_path, largest, is_half):
    path = write("y = MatMul(x, w)", w=SQUARE)
    report = convert(path, tmp_path / "float16.onnx", {"x": largest, "y": 1.0})
    assert report.float16_nodes == is_half


def test_convert_products_of_few_terms_stay_in_float32(write, tmp_path):
    path = write(
        """a = Slice(x, zero, few, one) b = MatMul(a, w) c = Unsqueeze(b, one)
        d = Conv <pads = [1, 1]> (c, k) e = Squeeze(d, one) y = Gemm <transB = 1> (a, g)""",
        w=SQUARE[:15],
        g=SQUARE[:, :15],
        k=np.ones((1, 1, 3), np.float32),
        zero=np.array([0]),
        one=np.array([1]),
        few=np.array([15]),
    )
    assert measure_ranges(path, [{"x": X}]) == {}
    assert convert(path, tmp_path / "float16.onnx", {}) == HalfPrecision(0, {}, 0.0)
    assert "to16" not in operators(tmp_path / "float16.onnx")


def test_convert_range_not_measured_is_an_error(write, tmp_path):
    path = write("y = MatMul(x, w)", w=SQUARE)
    with pytest.raises(ExportError, match=r"float32\.onnx: no range was measured for 'y'$"):
        convert(path, tmp_path / "float16.onnx", {"x": 1.0})


def test_measure_ranges_largest_of_all_runs_on_both_sides_of_zero(write):
    path = write("a = Gelu(x) y = MatMul(a, w) b = Add(x, x)", w=-np.eye(32, dtype=np.float32))
    x = np.zeros((1, 32), np.float32)
    feeds = [{"x": np.where(np.arange(32) == i, value, x)} for i, value in enumerate([5, 7, -9])]
    assert measure_ranges(path, feeds) == pytest.approx({"a": 7, "y": 7})


@pytest.mark.parametrize("is_large", [False, True])
def test_parameters_in_a_file_of_their_own(write, monkeypatch, tmp_path, caplog, is_large):
    path = write("a = MatMul(x, w) b = MatMul(a, v) y = Mul(b, scale)", w=SQUARE, v=SQUARE, scale=X)
    (expected,) = run(cpu_session(path))
    data = {"location": "float32.onnx.data", "size_threshold": 0}
    onnx.save(onnx.load(path), path, save_as_external_data=True, **data)
    monkeypatch.setattr(half_precision, "LARGE_BYTES", 0 if is_large else 1 << 20)

    convert(path, path, measure_ranges(path, [{"x": X}]))

    names = ["float32.onnx", "float32.onnx.data"] if is_large else ["float32.onnx"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * SQUARE.nbytes / 2
    assert caplog.messages == []
    for session in (cpu_session(path), session_with_real_rounding(path)):
        (found,) = run(session)
        assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


def test_session_with_real_rounding_rounds_and_overflows(write, tmp_path):
    path = write("y = MatMul(x, w)", w=np.eye(32, dtype=np.float32) * 1000)
    x = np.zeros((1, 32), np.float32)
    x[0, :3] = [4000, 65.5, 1.0007]
    converted = tmp_path / "float16.onnx"
    convert(path, converted, {"x": 1.0, "y": 1.0})
    # what makes this session necessary
    np.testing.assert_allclose(run(cpu_session(converted), x)[0][0, :2], [4e6, 65500])
    (found,) = run(session_with_real_rounding(converted), x)
    assert found[0, :3].tolist() == [math.inf, 65504, 1001]


def test_session_with_real_rounding_overflow_between_products_is_seen(write, tmp_path):
    path = write("a = MatMul(x, w) b = Relu(a) y = MatMul(b, v)", w=SQUARE * 1000, v=SQUARE / 1000)
    converted = tmp_path / "float16.onnx"
    convert(path, converted, dict.fromkeys("xaby", 1.0))
    assert operators(converted) == "to16 MatMul Relu MatMul to32"
    assert np.isfinite(run(cpu_session(converted), X * 100)[0]).all()
    assert not np.isfinite(run(session_with_real_rounding(converted), X * 100)[0]).all()


def test_half_precision_goes_to_json():
    report = HalfPrecision(3, {"node_conv2d": 1e5}, 1e5)
    assert json.loads(json.dumps(report.to_json())) == {
        "float16_nodes": 3,
        "float32_nodes": {"node_conv2d": 1e5},
        "largest_value": 1e5,
    }


def test_convert_real_encoder_is_half_as_large_and_close(repository, photo_canvas, tmp_path):
    path, converted = repository / ENCODER_ONNX, tmp_path / "model.onnx"
    canvas, canvas_size = photo_canvas
    feed = {"canvas": canvas.numpy(), "canvas_size": canvas_size.numpy()}
    report = convert(path, converted, measure_ranges(path, [feed]))
    assert report.float16_nodes > 100
    assert report.float32_nodes == {}
    assert converted.stat().st_size < 0.6 * path.stat().st_size
    assert check_interface(converted, SAM_IMAGE_ENCODER) == []
    found_operators = operators(converted).split()
    products = found_operators.count("MatMul") + found_operators.count("Conv")
    assert found_operators.count("to16") < 0.75 * products  # node by node each would have its own
    (expected,) = cpu_session(path).run(None, feed)
    (found,) = session_with_real_rounding(converted).run(None, feed)
    assert 1e-5 < np.abs(found - expected).max() / np.abs(expected).max() < 1e-2


def test_convert_real_decoder_is_close_in_every_case(repository, photo_embedding, tmp_path):
    path, converted = repository / DECODER_ONNX, tmp_path / "model.onnx"
    cases = [case.inputs(photo_embedding) for case in DECODER_CASES[:4]]
    feeds = [{name: tensor.numpy() for name, tensor in case.items()} for case in cases]
    report = convert(path, converted, measure_ranges(path, feeds[1:3]))
    assert report.float32_nodes == {}
    assert check_interface(converted, SAM_MASK_DECODER) == []
    onnx.checker.check_model(converted, full_check=True)
    exact, rounded = cpu_session(path), session_with_real_rounding(converted)
    for feed in feeds:
        (logits, ious), (half_logits, half_ious) = exact.run(None, feed), rounded.run(None, feed)
        assert np.abs(half_logits - logits).max() < 1e-2 * np.abs(logits).max()
        assert np.abs(half_ious - ious).max() < 1e-2
