"""What a request needs of /dev/shm, beside what a real server was seen to take."""

import io

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import Limits
from sam_refine.service.request import read_request
from sam_refine.service.shared_tensors import SharedTensors

MIB = 2**20


def sent(side, outputs, classes=8, image="IMAGE", **parameters):
    images = {
        "IMAGE": {"IMAGE": np.zeros((side, side, 3), np.uint8)},
        "EMBEDDING": {
            "EMBEDDING": np.zeros((1, 256, 64, 64), np.float32),
            "IMAGE_SIZE": np.array([side, side]),
        },
    }
    tensors = {**images[image], "LOGITS": np.full((classes, 16, 16), 0.1, np.float32)}
    request = read_request(tensors, parameters, outputs, Limits())
    return SharedTensors.of(request, tensors, outputs)


@pytest.mark.parametrize(
    ("side", "outputs", "region_mib", "measured_mib"),
    [
        (1024, ["REFINED_LOGITS"], 15, 33),
        (2048, ["REFINED_LOGITS"], 48, 129),
        (2048, ["REFINED_LABELS"], 48, 0),
        (4096, ["REFINED_LABELS_UINT8"], 177, 0),
    ],
)
def test_growth_is_at_least_what_was_measured_and_little_more(
    side, outputs, region_mib, measured_mib
):
    grown = sent(side, outputs).growth_bytes(region_mib * MIB, 200 * MIB, prompts=8)
    assert measured_mib * MIB <= grown <= (measured_mib + 20) * MIB


def test_region_that_has_had_such_a_request_does_not_grow_again():
    tensors = sent(1024, ["REFINED_LOGITS"])
    grown = tensors.growth_bytes(MIB, 0, prompts=32)
    assert tensors.growth_bytes(MIB + grown + tensors.input_bytes, grown, prompts=32) == 0
    assert tensors.answer_growth_bytes(MIB + grown + tensors.input_bytes) == 0


def test_outputs_that_find_no_place_in_the_region_are_taken_after_the_work():
    tensors = sent(1024, ["REFINED_LOGITS"])
    assert 32 * MIB < tensors.answer_growth_bytes(15 * MIB) <= 35 * MIB


def test_prompts_and_their_masks_need_room_twice():
    tensors = sent(256, ["REFINED_LABELS"], image="EMBEDDING")
    one, many = (tensors.growth_bytes(0, 0, prompts) for prompts in (1, 32))
    assert many - one == 2 * (7 + 31) * 256 * 1024, "in the stub's region and in the decoder's"


def test_judge_is_sent_all_four_masks_of_a_prompt():
    one, four = (
        sent(256, ["REFINED_LABELS"], image="EMBEDDING", judge=judge).masks_bytes
        for judge in ("none", "rule")
    )
    assert four == 4 * one == MIB


def test_encoded_image_counts_as_its_file_and_as_its_pixels():
    file = io.BytesIO()
    Image.new("RGB", (64, 32)).save(file, "PNG")
    tensors = {
        "ENCODED_IMAGE": np.array([file.getvalue()], object),
        "LOGITS": np.zeros((2, 2, 2), np.float32),
    }
    request = read_request(tensors, {}, ["REFINED_LABELS"], Limits())
    counted = SharedTensors.of(request, tensors, ["REFINED_LABELS"])
    assert counted.input_bytes == len(file.getvalue()) + 32
    assert counted.image_bytes == 32 * 64 * 3


def test_least_is_what_a_fresh_server_would_need():
    tensors = sent(1024, ["REFINED_LABELS"])
    fresh = tensors.growth_bytes(MIB + tensors.input_bytes, 0, prompts=1)
    assert tensors.least_bytes() == MIB + tensors.input_bytes + fresh


@pytest.mark.parametrize("side", [64, 1024, 4096])
@pytest.mark.parametrize("outputs", [["REFINED_LABELS"], ["REFINED_LOGITS"]])
def test_two_requests_at_once_fit_what_the_guide_advises(side, outputs):
    """Five times the image, twice the scores and outputs, and 110 MiB."""
    tensors = sent(side, outputs)
    region = MIB + tensors.input_bytes
    first = tensors.growth_bytes(region, 0, prompts=32)
    second = tensors.growth_bytes(region, first, prompts=32)  # the models have grown already
    scores = tensors.input_bytes - tensors.image_bytes
    advised = 5 * tensors.image_bytes + 2 * (scores + tensors.output_bytes) + 110 * MIB
    assert 2 * region + first + second <= advised
