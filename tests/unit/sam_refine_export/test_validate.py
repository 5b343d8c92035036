import json
import math
import re

import numpy as np
import onnx
import pytest
import torch

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER, MaskPrompt
from sam_refine_export import validate
from sam_refine_export.networks import SamNetworks, new_mask_decoder
from sam_refine_export.repository import DECODER_ONNX, ENCODER_ONNX
from sam_refine_export.validate import DECODER_CASES, ValidationReport, ValueCheck


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
    report = validate.validate(mobile_sam, repository / ENCODER_ONNX, tmp_path / "model.onnx")
    assert len(report.interface) == 1
    assert report.values == ()
    assert report.mismatches == report.interface


def test_check_mask_decoder_other_parameters_are_found(
    repository, mobile_sam, photo_embedding, monkeypatch
):
    monkeypatch.setattr(validate, "DECODER_CASES", DECODER_CASES[:1])
    torch.manual_seed(0)
    other = SamNetworks(torch.nn.Identity(), mobile_sam.prompt_encoder, new_mask_decoder().eval())
    checks = validate.check_mask_decoder(repository / DECODER_ONNX, other, photo_embedding)
    report = ValidationReport((), tuple(checks))
    assert len(report.mismatches) == 2
    assert re.match(
        r"sam_mask_decoder: low_res_logits differs by up to \S+ from PyTorch, allowed is 0\.001 "
        r"\(N = 1, P = 1, K = 1, mask prompt none, single mask\)",
        report.mismatches[0],
    )


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


def test_report_sums_up_and_goes_to_json():
    report = ValidationReport(
        (),
        (
            ValueCheck("m", "iou_predictions", "a", 1e-6, 1e-4),
            ValueCheck("m", "iou_predictions", "b", 3e-6, 1e-4),
            ValueCheck("m", "low_res_logits", "a", math.nan, 1e-3),
        ),
    )
    assert report.max_differences["iou_predictions"] == 3e-6
    assert report.mismatches == (
        "m: low_res_logits differs by up to nan from PyTorch, allowed is 0.001 (a)",
    )
    assert json.loads(json.dumps(report.to_json()))["values"][1] == {
        "model": "m",
        "output": "iou_predictions",
        "case": "b",
        "max_difference": 3e-6,
        "tolerance": 1e-4,
    }
