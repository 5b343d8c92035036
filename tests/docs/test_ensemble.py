"""docs/ensemble.md: its files, served, answer as `sam_refine` does when it is called by itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import tritonclient.grpc
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from sam_refine_deploy import ServeError, Server, ServerOptions
from support.cases import photo
from support.servers import server_ports
from support.tiny_models import add_model, make_repository, replace_by_zeros
from support.tiny_models import network as onnx_network

pytestmark = [pytest.mark.triton, pytest.mark.slow]

PAGE = (Path(__file__).parents[2] / "docs/ensemble.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`(models/[^`\n]+)`[^`]*\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
LABELS = "REFINED_LABELS_UINT8"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(16), nn.Conv2d(3, 6, 1))


def export(torch_network: nn.Module, folder: Path) -> None:
    """The page's own lines, with paths below `folder`."""
    (lines,) = re.findall(r"```python\n(import torch\n.*?)```", PAGE, re.DOTALL)
    assert lines.count('"models/') == 1
    exec(lines.replace('"models/', f'"{folder}/models/'), {"network": torch_network})


def plain(torch_network: nn.Sequential) -> onnx.ModelProto:
    """The same network as an exporter writes it: (1, 3, H, W) to (1, C, h, w)."""
    convolution = torch_network[1]
    weights = {"w": convolution.weight, "b": convolution.bias}
    return onnx_network(
        [
            helper.make_node(
                "AveragePool", ["pixels"], ["p"], kernel_shape=[16, 16], strides=[16] * 2
            ),
            helper.make_node("Conv", ["p", *weights], ["logits"]),
        ],
        [("pixels", TensorProto.FLOAT, [1, 3, "H", "W"])],
        [("logits", TensorProto.FLOAT, [1, 6, "h", "w"])],
        [numpy_helper.from_array(t.detach().numpy(), name) for name, t in weights.items()],
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `models` of the page."""
    root = tmp_path_factory.mktemp("ensemble")
    for name in ("coarse_network", "plain_network", "segment", "segment_bls"):
        (root / "models" / name / "1").mkdir(parents=True)
    for name, text in FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    export(network(), root)
    onnx.save(plain(network()), root / "models/plain_network/1/model.onnx")
    return root / "models"


@pytest.fixture(scope="module")
def call(repository: Path, models: Path):
    """call(model, inputs, outputs, parameters) on a server as the page starts it."""
    (command,) = re.findall(r"```sh\n(.*?)\n```", PAGE)
    extra = shlex.split(command.replace("$PWD/models", str(models)))
    assert extra[:3] == ["sam-refine", "serve", "--"]
    options = ServerOptions(repository, extra_arguments=tuple(extra[3:]), **server_ports())
    with (
        Server(options) as server,
        tritonclient.grpc.InferenceServerClient(server.grpc_address) as client,
    ):

        def infer(model: str, inputs: dict[str, np.ndarray], outputs, parameters=None) -> Any:
            tensors = []
            for name, array in inputs.items():
                datatype = np_to_triton_dtype(array.dtype)
                tensors.append(tritonclient.grpc.InferInput(name, list(array.shape), datatype))
                tensors[-1].set_data_from_numpy(array)
            wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in outputs]
            answer = client.infer(model, tensors, outputs=wanted, parameters=parameters)
            return [answer.as_numpy(name) for name in outputs]

        yield infer


def test_page_names_every_file_that_it_shows():
    assert len(FILES) == 5
    assert PAGE.count("```pbtxt") + PAGE.count("```python\n") == len(FILES) + 1


@pytest.mark.parametrize("parameters", [{}, {"min_region_area": 400, "iou_threshold": 0.9}])
def test_ensemble_and_bls_answer_as_sam_refine_does(call, models, parameters):
    image = photo(200, 300)
    session = onnxruntime.InferenceSession(models / "coarse_network/1/model.onnx")
    (scores,) = session.run(None, {"image": image})
    outputs = [LABELS, "REGION_KEPT"]
    labels, kept = call("sam_refine", {"IMAGE": image, "LOGITS": scores}, outputs, parameters)
    assert len(np.unique(labels)) > 1
    in_ensemble = call("segment", {"IMAGE": image}, outputs, parameters)
    np.testing.assert_array_equal(in_ensemble[0], labels)
    np.testing.assert_array_equal(in_ensemble[1], kept)
    (by_bls,) = call("segment_bls", {"IMAGE": image}, [LABELS], parameters)
    assert (by_bls == labels).mean() > 0.99  # its softmax is NumPy's


@pytest.mark.parametrize(
    ("model", "status"), [("segment", "INVALID_ARGUMENT"), ("segment_bls", "INTERNAL")]
)
def test_errors_come_back_as_the_page_says(call, model, status):
    with pytest.raises(InferenceServerException, match="'speed' is not an option") as caught:
        call(model, {"IMAGE": photo(32, 32)}, [LABELS], {"speed": 1})
    assert caught.value.status() == f"StatusCode.{status}"
    assert status in PAGE or model == "segment"


def test_network_with_a_batch_axis_does_not_fit_an_ensemble(tmp_path):
    """Triton compares configurations: `sam_refine` has its own, the other networks are small."""
    repository = make_repository(tmp_path / "repository")
    replace_by_zeros(repository)
    models = tmp_path / "models"
    pixels = '{ name: "PIXELS" data_type: TYPE_FP32 dims: [ 1, 3, -1, -1 ] }'
    changes = {
        "coarse_network": "plain_network",
        'input [ { name: "IMAGE"': f'input [ {pixels}, {{ name: "IMAGE"',
        '{ key: "image"  value: "IMAGE" }': '{ key: "pixels" value: "PIXELS" }',
        '{ key: "scores" value': '{ key: "logits" value',
    }
    config = FILES["models/segment/config.pbtxt"]
    for old, new in changes.items():
        assert config.count(old) == 1
        config = config.replace(old, new)
    add_model(models, "segment", config)
    add_model(models, "plain_network", FILES["models/plain_network/config.pbtxt"], plain(network()))
    extra = (f"--model-repository={models}",)
    options = ServerOptions(repository, extra_arguments=extra, **server_ports())
    with (
        pytest.raises(ServeError, match=r"segment, .*: \[1,6,-1,-1\] is inferred"),
        Server(options),
    ):
        pass
