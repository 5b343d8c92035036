"""The networks as strangers call them: what is out of bounds is refused before any work.

By the graphs alone, which holds wherever ONNX Runtime runs them, and by a server.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from tritonclient.utils import InferenceServerException

from sam_refine.contract import MAX_SCORE, MOST_POINTS, MOST_PROMPTS, RefineOptions
from sam_refine_deploy.launcher.stubs import stubs_of

pytestmark = pytest.mark.triton

EMBEDDING = np.zeros((1, 256, 64, 64), np.float32)


def decoder_inputs(n=2, p=2, k=1, **changes):
    inputs = {
        "image_embedding": EMBEDDING,
        "point_coords": np.full((n, p, 2), 100, np.float32),
        "point_labels": np.ones((n, p), np.float32),
        "mask_prompts": np.zeros((k, 1, 256, 256), np.float32),
        "mask_index": np.zeros(n, np.int64),
        "mask_prompt_mode": np.array([1]),
        "mask_choice": np.array([0]),
        "iou_threshold": np.array([-np.inf], np.float32),
        "low_res_size": np.array([256, 256]),
    }
    return inputs | changes


def encoder_inputs(*sizes, canvases=1):
    canvas = np.zeros((canvases, 1024, 1024, 3), np.uint8)
    return {"canvas": canvas, "canvas_size": np.array(sizes, np.int64)}


@pytest.fixture
def decode(infer):
    def decode(inputs):
        outputs = ["low_res_logits", "iou_predictions"]
        return infer(inputs, outputs, model="sam_mask_decoder")

    return decode


@pytest.fixture(scope="module")
def graphs(repository):
    """A session of each network's graph, and nothing of ours around it."""
    names = ("sam_image_encoder", "sam_mask_decoder")
    return {name: onnxruntime.InferenceSession(graph_of(repository, name)) for name in names}


def graph_of(repository, name):
    return repository / name / "1/model.onnx"


def filled(shape, value, dtype):
    return np.full(shape, value, dtype)


def but_one(shape, value):
    """Zeros but for the last value."""
    values = np.zeros(shape, np.float32)
    values.flat[-1] = value
    return values


INDEX = "mask_index must be at least 0 and below size 0 of mask_prompts"
DECODER_REFUSES = [
    (decoder_inputs(33), "size 0 of point_coords must be in [0, 32]"),
    (decoder_inputs(1500), "size 0 of point_coords must be in [0, 32]"),
    (decoder_inputs(1, 17), "size 1 of point_coords must be in [1, 16]"),
    (decoder_inputs(1, 0), "size 1 of point_coords must be in [1, 16]"),
    (decoder_inputs(k=33), "size 0 of mask_prompts must be in [1, 32]"),
    (decoder_inputs(0, k=0), "size 0 of mask_prompts must be in [1, 32]"),
    (
        decoder_inputs(point_labels=filled((1, 2), 1, np.float32)),
        "size 0 of point_labels must be size 0 of point_coords",
    ),
    (
        decoder_inputs(mask_index=filled(3, 0, np.int64)),
        "size 0 of mask_index must be size 0 of point_coords",
    ),
    (decoder_inputs(mask_index=np.array([0, -1])), INDEX),
    (decoder_inputs(mask_index=np.array([0, -(2**63)])), INDEX),
    (decoder_inputs(mask_index=np.array([0, 1])), INDEX),
    (decoder_inputs(k=3, mask_index=np.array([3, 0])), INDEX),
    (decoder_inputs(mask_index=np.array([2**40, 0])), INDEX),
    (
        decoder_inputs(point_coords=filled((2, 2, 2), np.nan, np.float32)),
        "point_coords must be in [-1e+06, 1e+06]",
    ),
    (
        decoder_inputs(point_coords=filled((2, 2, 2), np.inf, np.float32)),
        "point_coords must be in [-1e+06, 1e+06]",
    ),
    (
        decoder_inputs(point_labels=filled((2, 2), 7, np.float32)),
        "point_labels must be in [-1, 3]",
    ),
    (decoder_inputs(mask_prompt_mode=np.array([99])), "mask_prompt_mode must be in [0, 2]"),
    (decoder_inputs(mask_prompt_mode=np.array([-1])), "mask_prompt_mode must be in [0, 2]"),
    (decoder_inputs(mask_choice=np.array([3])), "mask_choice must be in [0, 2]"),
    (decoder_inputs(low_res_size=np.array([-4, 256])), "low_res_size must be in [0, 256]"),
    (decoder_inputs(low_res_size=np.array([256, 2**40])), "low_res_size must be in [0, 256]"),
    (decoder_inputs(low_res_size=np.array([3, 256])), "low_res_size must be in [0, 256] and a mul"),
    (decoder_inputs(point_labels=filled((2, 2), 0.5, np.float32)), "[-1, 3] and a multiple of 1"),
    (decoder_inputs(point_labels=filled((2, 2), np.nan, np.float32)), "point_labels must be in"),
    (decoder_inputs(iou_threshold=filled(1, np.nan, np.float32)), "iou_threshold must be in [-inf"),
    *(
        (decoder_inputs(k=2, **{name: but_one(shape, value)}), f"{name} must be finite")
        for name, shape in (
            ("image_embedding", EMBEDDING.shape),
            ("mask_prompts", (2, 1, 256, 256)),
        )
        for value in (np.nan, np.inf, -np.inf)
    ),
]
ENCODER_REFUSES = [
    (encoder_inputs([-1, 5]), "canvas_size must be in [0, 1024]"),
    (encoder_inputs([1025, 5]), "canvas_size must be in [0, 1024]"),
    (encoder_inputs([5, 2**40]), "canvas_size must be in [0, 1024]"),
]
REFUSED = [
    *(("sam_mask_decoder", *each) for each in DECODER_REFUSES),
    *(("sam_image_encoder", *each) for each in ENCODER_REFUSES),
]


@pytest.mark.parametrize(("model", "inputs", "text"), REFUSED)
def test_graph_itself_names_the_bound_that_is_broken(graphs, model, inputs, text):
    """A node of this name: the text of ONNX Runtime's own error, whichever backend passes it on."""
    with pytest.raises(Fail) as caught:
        graphs[model].run(None, inputs)
    assert text in str(caught.value)


@pytest.mark.parametrize(("model", "inputs", "text"), REFUSED)
def test_server_names_the_bound_that_is_broken(infer, model, inputs, text):
    outputs = {"sam_mask_decoder": "iou_predictions", "sam_image_encoder": "image_embedding"}
    with pytest.raises(InferenceServerException) as caught:
        infer(inputs, [outputs[model]], model=model)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert text in caught.value.message()


def test_graph_of_the_encoder_takes_a_size_for_each_canvas(graphs):
    with pytest.raises(Fail, match="size 0 of canvas_size must be size 0 of canvas"):
        graphs["sam_image_encoder"].run(None, encoder_inputs([5, 5], canvases=2))


@pytest.mark.parametrize("name", ["sam_image_encoder", "sam_mask_decoder"])
def test_nothing_reads_an_input_before_its_size_is_checked_and_no_work_before_all_is(
    repository, name
):
    graph = onnx.load(graph_of(repository, name)).graph

    def readers(tensor):
        return {node.op_type: node.output[0] for node in graph.node if tensor in node.input}

    for given in (each.name for each in graph.input):
        assert readers(given).pop("Unsqueeze") == f"{given}/sized/wrapped"
        assert set(readers(given)) <= {"Unsqueeze", "Shape"}
        of_values = readers(f"{given}/sized")
        assert of_values.pop("Unsqueeze") == f"{given}/bounded/wrapped"
        assert all(output.startswith("bounds/") for output in of_values.values())


def test_decoder_takes_what_is_just_within_bounds(decode):
    for inputs in (
        decoder_inputs(0),
        decoder_inputs(1, 16, 32),
        decoder_inputs(1, k=2, mask_index=np.array([1])),
    ):
        count = len(inputs["point_coords"])
        assert decode(inputs)["iou_predictions"].shape == (count, 1)


def test_decoder_takes_the_largest_mask_prompts_that_scores_can_make(decode):
    """Which are finite, and whose sum is not."""
    _, largest_scale = RefineOptions.rows["mask_prompt_scale"].range
    mask_prompts = filled((1, 1, 256, 256), MAX_SCORE * largest_scale, np.float32)
    decode(decoder_inputs(mask_prompts=mask_prompts))


def test_decoder_stays_under_2_gb_whatever_it_is_asked(decode, server):
    """At its bounds, in calls of several shapes, and where it refuses: no call makes it larger."""
    largest = decoder_inputs(MOST_PROMPTS, MOST_POINTS, MOST_PROMPTS, mask_choice=np.array([2]))
    for inputs in (largest, decoder_inputs(MOST_PROMPTS - 3, 3, 5), largest):
        assert len(decode(inputs)["low_res_logits"]) == len(inputs["point_coords"])
    before = peak_bytes()
    assert before < 2e9
    for inputs in (decoder_inputs(1500, 16), decoder_inputs(k=600)):  # 70 GB, 3 GB if worked on
        with pytest.raises(InferenceServerException):
            decode(inputs)
    print("AFTER", peak_bytes())
    assert peak_bytes() - before < 512 * 2**20  # what the messages take


def peak_bytes() -> int:
    """The most memory that a decoder of a server of this process has had at a time."""
    servers = [
        each for each in psutil.Process().children(recursive=True) if each.name() == "tritonserver"
    ]
    stubs = [stub for each in servers for stub in stubs_of(each.pid)]
    statuses = [
        Path(f"/proc/{stub.process_id}/status").read_text()
        for stub in stubs
        if stub.model == "sam_mask_decoder"
    ]
    return max(1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", each)[0]) for each in statuses)
