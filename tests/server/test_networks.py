"""The two networks as strangers call them: what is out of bounds is refused before any work."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from sam_refine_deploy.launcher.stubs import STUB_PROGRAM

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


@pytest.fixture
def decode(infer):
    def decode(inputs):
        outputs = ["low_res_logits", "iou_predictions"]
        return infer(inputs, outputs, model="sam_mask_decoder")

    return decode


def filled(shape, value, dtype):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (decoder_inputs(33), "size 0 of point_coords must be in [0, 32]"),
        (decoder_inputs(1500), "size 0 of point_coords must be in [0, 32]"),
        (decoder_inputs(1, 17), "size 1 of point_coords must be in [1, 16]"),
        (decoder_inputs(1, 0), "size 1 of point_coords must be in [1, 16]"),
        (decoder_inputs(k=33), "size 0 of mask_prompts must be in [1, 32]"),
        (decoder_inputs(k=0), "size 0 of mask_prompts must be in [1, 32]"),
        (
            decoder_inputs(point_labels=filled((1, 2), 1, np.float32)),
            "size 0 of point_labels must be size 0 of point_coords",
        ),
        (
            decoder_inputs(mask_index=filled(3, 0, np.int64)),
            "size 0 of mask_index must be size 0 of point_coords",
        ),
        (decoder_inputs(mask_index=np.array([0, -1])), "mask_index must be in [0, 31]"),
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
    ],
)
def test_decoder_names_the_bound_that_is_broken(decode, inputs, text):
    with pytest.raises(InferenceServerException) as caught:
        decode(inputs)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert text in caught.value.message()


def test_decoder_takes_what_is_just_within_bounds(decode):
    for inputs in (decoder_inputs(0), decoder_inputs(32), decoder_inputs(1, 16, 32)):
        count = len(inputs["point_coords"])
        assert decode(inputs)["iou_predictions"].shape == (count, 1)


def test_decoder_that_refuses_takes_no_memory_for_it(decode):
    decode(decoder_inputs(32))
    before = peak_bytes()
    with pytest.raises(InferenceServerException):
        decode(decoder_inputs(1500, 16))
    assert peak_bytes() - before < 256 * 2**20  # worked on, it would be 70 GB


def peak_bytes() -> int:
    """The most memory that a decoder on this machine has had at a time."""
    peaks = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_text().split("\0")
            if words[0].endswith(STUB_PROGRAM) and "/sam_mask_decoder/" in words[1]:
                (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", (directory / "status").read_text())
                peaks.append(int(kilobytes) * 1024)
        except OSError:  # it has just ended
            continue
    assert peaks
    return max(peaks)


@pytest.mark.parametrize("size", [[-1, 5], [1025, 5], [5, 2**40]])
def test_encoder_refuses_a_size_that_is_not_on_its_canvas(infer, size):
    canvas = np.zeros((1, 1024, 1024, 3), np.uint8)
    with pytest.raises(InferenceServerException, match=r"canvas_size must be in \[0, 1024\]"):
        infer(
            {"canvas": canvas, "canvas_size": np.array([size])},
            ["image_embedding"],
            model="sam_image_encoder",
        )
