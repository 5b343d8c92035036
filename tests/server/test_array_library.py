"""A deployment that computes with torch, which stays on a GPU, answers as one with numpy does."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tritonclient.grpc

from sam_refine.contract import SAM_REFINE
from sam_refine_deploy import ServeError, Server, ServerOptions
from support.cases import coarse_scores, photo
from support.servers import calls_of, server_ports

pytestmark = pytest.mark.triton

SIZE = (120, 180)
REQUEST = {"IMAGE": photo(*SIZE), "LOGITS_FP16": coarse_scores()}


def server_of(repository, directory, library):
    """A server that is not started yet, on a copy of the repository."""
    models = shutil.copytree(repository, directory / "models", copy_function=shutil.copyfile)
    config = models / "sam_refine/config.pbtxt"
    text = config.read_text(encoding="utf-8")
    assert 'string_value: "numpy"' in text
    config.write_text(
        text.replace('string_value: "numpy"', f'string_value: "{library}"'), encoding="utf-8"
    )
    return Server(ServerOptions(models, **server_ports()))


@pytest.fixture(scope="module")
def infer_by_torch(repository, tmp_path_factory):
    with (
        server_of(repository, tmp_path_factory.mktemp("torch"), "torch") as server,
        tritonclient.grpc.InferenceServerClient(server.grpc_address) as client,
    ):
        yield calls_of(client)


PARAMETERS = {
    f"{rule}, {mask_prompt}": {
        "failed_regions": rule,
        "mask_prompt": mask_prompt,
        "min_region_area": 4,
        "confidence_threshold": 0.3,
    }
    for rule in ("scores_only", "compete", "keep_coarse")
    for mask_prompt in ("none", "trident")
}
PARAMETERS["judged"] = {"preset": "safe", "min_region_area": 4, "min_gain": 0.5}


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
def test_torch_gives_the_outputs_of_numpy(infer, infer_by_torch, parameters):
    names = [name for name in SAM_REFINE.output_names if name != "STAGE_TIMES_MS"]
    expected = infer(REQUEST, names, parameters)
    found = infer_by_torch(REQUEST, names, parameters)
    kept = expected["REGION_KEPT"]
    assert 0 < kept.sum() < len(kept)
    for name in names:
        assert found[name].dtype == expected[name].dtype, name
        if expected[name].dtype.kind == "f":
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_torch_no_mask_good_enough_leaves_the_map(infer, infer_by_torch):
    """The decoder's output of no masks passes the server."""
    parameters = {"mask_prompt": "none", "min_region_area": 4, "iou_threshold": 1.0}
    names = ["REFINED_LABELS", "REGION_IOUS", "REGION_KEPT"]
    expected = infer(REQUEST, names, parameters)
    found = infer_by_torch(REQUEST, names, parameters)
    assert not found["REGION_KEPT"].any()
    np.testing.assert_allclose(found["REGION_IOUS"], expected["REGION_IOUS"], atol=1e-4)
    np.testing.assert_array_equal(found["REFINED_LABELS"], expected["REFINED_LABELS"])


def test_torch_answers_many_requests_with_the_same(infer_by_torch):
    """Memory of Triton that is read in place must live as long as it is read."""
    answers = [
        infer_by_torch(REQUEST, ["REFINED_LABELS_UINT8", "REGION_IOUS"], {"min_region_area": 4})
        for _ in range(5)
    ]
    for answer in answers[1:]:
        for name, array in answer.items():
            np.testing.assert_array_equal(array, answers[0][name], err_msg=name)


def test_unknown_library_is_a_load_error(repository, tmp_path):
    with (
        pytest.raises(ServeError, match="array_library must be numpy or torch, got 'jax'"),
        server_of(repository, tmp_path, "jax"),
    ):
        pytest.fail("it started")
