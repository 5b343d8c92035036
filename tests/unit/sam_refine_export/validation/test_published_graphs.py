import numpy as np
import onnxruntime
import pytest
import torch

from sam_refine.contract import MaskChoice, MaskPromptMode
from sam_refine_export import Precision
from sam_refine_export.graphs.samples import DECODER_CASES, DecoderCase, canvases
from sam_refine_export.validation import published_graphs, reference
from sam_refine_export.validation.validate import TOLERANCES

DECODED = [case for case in DECODER_CASES if published_graphs.decodes(case)]


def test_encode_published_encoder_equals_its_networks_in_pytorch(
    mobile_sam, published, photo_canvas, photo_embedding
):
    embedding = published_graphs.encode(published[0], *photo_canvas)
    assert embedding.shape == (1, 256, 64, 64)
    assert (embedding - photo_embedding).abs().max() < 1e-5


def case(points, mode=MaskPromptMode.SAM, choice=MaskChoice.SINGLE):
    return DecoderCase(1, points, False, 1, mode, choice)


@pytest.mark.parametrize(
    ("case", "is_decoded"),
    [
        (case(2), False),
        (case(2, choice=MaskChoice.BEST_OF_THREE), True),
        (case(3), True),
        (case(3, choice=MaskChoice.BEST_OF_THREE), False),
        (case(3, MaskPromptMode.NONE), True),
        (case(3, MaskPromptMode.TRIDENT), False),
    ],
    ids=str,
)
def test_decodes_published_decoder_goes_by_the_number_of_points(case, is_decoded):
    assert published_graphs.decodes(case) == is_decoded


def test_decodes_cases_have_both_modes_with_both_choices_of_mask():
    assert {(case.mode, case.choice) for case in DECODED} == {
        (mode, choice)
        for mode in (MaskPromptMode.NONE, MaskPromptMode.SAM)
        for choice in (MaskChoice.SINGLE, MaskChoice.BEST_OF_THREE)
    }


@pytest.fixture(scope="module")
def sample_embedding(mobile_sam):
    canvas, canvas_size = canvases()
    return reference.encode(mobile_sam.image_encoder, canvas[:1], canvas_size[:1])


@pytest.mark.parametrize("case", DECODED, ids=str)
def test_decode_published_decoder_equals_its_networks_in_pytorch(
    mobile_sam, published, sample_embedding, case
):
    """Its best mask is best beyond doubt: no tolerance makes another one right."""
    inputs = case.inputs(sample_embedding)
    session = onnxruntime.InferenceSession(published[1], providers=["CPUExecutionProvider"])
    masks, ious = published_graphs.decode(session, inputs)
    candidates = reference.decode(mobile_sam, **inputs)
    expected_masks, expected_ious = reference.choose(*candidates)
    assert np.abs(masks - expected_masks.numpy()).max() < 1e-3
    assert np.abs(ious - expected_ious.numpy()).max() < 1e-5
    all_ious = candidates[1]
    others = torch.where(all_ious == expected_ious, -torch.inf, all_ious)
    tolerance = TOLERANCES[Precision.FP16]["iou_predictions"].of(expected_ious.numpy())
    assert (expected_ious[:, 0] - others.amax(dim=1)).min() > 2 * tolerance
