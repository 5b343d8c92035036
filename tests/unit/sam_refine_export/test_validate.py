import math
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER, MaskPrompt
from sam_refine_export import Precision, reference, validate
from sam_refine_export.networks import SamNetworks, new_mask_decoder
from sam_refine_export.repository import DECODER_ONNX, ENCODER_ONNX
from sam_refine_export.samples import DECODER_CASES
from sam_refine_export.validate import TOLERANCES, Tolerance
from sam_refine_export.validation_report import ValidationReport, ValueCheck


def rename_an_input(graph):
    graph.input[1].name = "points"


def change_a_dtype(graph):
    graph.input[4].type.tensor_type.elem_type = onnx.TensorProto.INT32


def fix_an_axis(graph):
    graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1


def test_check_interface_exported_graphs_have_no_mismatch(repository):
    assert validate.check_interface(repository / ENCODER_ONNX, SAM_IMAGE_ENCODER) == []
    assert validate.check_interface(repository / DECODER_ONNX, SAM_MASK_DECODER) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_an_input, r"inputs are \['image_embedding', 'points', .* expected \['image_emb"),
        (change_a_dtype, "mask_index is int32, expected int64$"),
        (
            fix_an_axis,
            r"low_res_logits has the shape \(1, 1, 256, 256\), expected \('N', 1, 256, 256\)$",
        ),
    ],
)
def test_check_interface_mismatch_is_named(repository, tmp_path, change, message):
    model = onnx.load(repository / DECODER_ONNX)
    change(model.graph)
    onnx.save(model, tmp_path / "model.onnx")
    (mismatch,) = validate.check_interface(tmp_path / "model.onnx", SAM_MASK_DECODER)
    assert re.match(f"sam_mask_decoder: {message}", mismatch)


def test_validate_wrong_interface_looks_at_no_values(repository, mobile_sam, tmp_path):
    model = onnx.load(repository / DECODER_ONNX)
    rename_an_input(model.graph)
    onnx.save(model, tmp_path / "model.onnx")
    report = validate.validate(mobile_sam, repository / ENCODER_ONNX, tmp_path / "model.onnx", 1)
    assert len(report.interface) == 1
    assert report.values == ()
    assert report.mismatches == report.interface


@pytest.fixture
def decoder(repository):
    return onnxruntime.InferenceSession(
        repository / DECODER_ONNX, providers=["CPUExecutionProvider"]
    )


def test_check_mask_decoder_other_parameters_are_found(decoder, mobile_sam, photo_embedding):
    torch.manual_seed(0)
    other = SamNetworks(torch.nn.Identity(), mobile_sam.prompt_encoder, new_mask_decoder().eval())
    tolerances = TOLERANCES[Precision.FP32]
    checks = validate.check_mask_decoder(
        decoder, other, photo_embedding, tolerances, DECODER_CASES[:1]
    )
    report = ValidationReport((), tuple(checks))
    assert len(report.mismatches) == 2
    assert re.match(
        r"sam_mask_decoder: low_res_logits differs by up to \S+ from PyTorch, allowed is 0\.001 "
        r"\(N = 1, P = 1, K = 1, mask prompt none, single mask\)",
        report.mismatches[0],
    )


def test_check_mask_decoder_masks_of_equal_predicted_iou_are_each_right(
    decoder, mobile_sam, photo_embedding
):
    """With a tolerance that makes all three equal even the wrong choice passes; without, not."""
    (case,) = (case for case in DECODER_CASES if case.multimask_output and case.prompts == 1)
    worst = OtherChoice(decoder, mobile_sam, case.inputs(photo_embedding))
    strict = TOLERANCES[Precision.FP32]
    for tolerances, passes in ((strict, False), (strict | {"iou_predictions": Tolerance(1)}, True)):
        logits, _ = validate.check_mask_decoder(
            worst, mobile_sam, photo_embedding, tolerances, [case]
        )
        assert logits.passed == passes


class OtherChoice:
    """The decoder as it would be if it took the mask of the lowest predicted IoU."""

    def __init__(self, decoder, networks, inputs):
        masks, ious = (tensor.numpy() for tensor in reference.decode(networks, **inputs))
        lowest = ious.argmin(axis=1)
        self._outputs = masks[[0], lowest][:, None], ious[[0], lowest][:, None]

    def run(self, names, feeds):
        return self._outputs


@pytest.mark.parametrize(("expected", "allowed"), [([], 0.1), ([3.0, -50.0], 1.0)])
def test_tolerance_is_absolute_or_relative_to_the_largest_value(expected, allowed):
    assert Tolerance(0.1, relative=0.02).of(np.array(expected)) == allowed


def test_decoder_cases_cover_every_value():
    assert {case.prompts for case in DECODER_CASES} == {1, 7, 32}
    assert {case.points + 2 * case.has_box for case in DECODER_CASES} == {1, 2, 3, 4}
    assert {case.mask_prompts for case in DECODER_CASES} == {1, 2, 3}
    assert {case.mask_prompt for case in DECODER_CASES} == set(MaskPrompt)
    assert {case.multimask_output for case in DECODER_CASES} == {False, True}


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([], [], 0.0),
        ([1.0], [1.0, 2.0], math.inf),
        ([math.nan], [1.0], math.inf),
        ([math.inf], [math.inf], math.inf),
    ],
)
def test_max_difference(found, expected, difference):
    assert validate.max_difference(np.array(found), np.array(expected)) == difference


def test_report_names_what_did_not_pass():
    report = ValidationReport(
        (),
        (
            ValueCheck("m", "iou_predictions", "a", 1e-6, 1e-4),
            ValueCheck("m", "iou_predictions", "b", 3e-6, 1e-4),
            ValueCheck("m", "low_res_logits", "a", math.nan, 1e-3),
        ),
    )
    assert report.mismatches == (
        "m: low_res_logits differs by up to nan from PyTorch, allowed is 0.001 (a)",
    )
