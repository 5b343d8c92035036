import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from sam_refine_export import ExportError
from sam_refine_export.graphs.onnx_graph import parameter_to_input


@pytest.fixture
def scaling(tmp_path):
    """The graph of y = scale * x with scale = [2, 3]."""
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 20]>'
        "g (float[N, 2] x) => (float[N, 2] y) { y = Mul(x, scale) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(np.float32([2, 3]), "scale"))
    onnx.save(model, tmp_path / "scaling.onnx")
    return tmp_path / "scaling.onnx"


def test_parameter_to_input_graph_takes_what_it_had(scaling, tmp_path):
    free = tmp_path / "free.onnx"
    assert parameter_to_input(scaling, free, "scale", ("N", 2)).tolist() == [2, 3]
    session = onnxruntime.InferenceSession(free, providers=["CPUExecutionProvider"])
    feeds = {"x": np.float32([[1, 1], [2, 2]]), "scale": np.float32([[5, 6], [7, 8]])}
    assert session.run(None, feeds)[0].tolist() == [[5, 6], [14, 16]]
    assert len(onnx.load(scaling).graph.initializer) == 1


def test_parameter_to_input_unknown_parameter_is_an_error(scaling, tmp_path):
    with pytest.raises(ExportError, match=r"scaling\.onnx has no parameter bias$"):
        parameter_to_input(scaling, tmp_path / "free.onnx", "bias", (2,))
    assert not (tmp_path / "free.onnx").exists()
