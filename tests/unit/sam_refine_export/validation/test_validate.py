import copy
import itertools
import math
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER, MaskChoice, MaskPromptMode
from sam_refine_export import ExportError, Precision
from sam_refine_export.graphs.half_precision import (
    convert,
    measure_ranges,
    session_with_real_rounding,
)
from sam_refine_export.graphs.samples import DECODER_CASES
from sam_refine_export.networks.sam_networks import SamNetworks, new_mask_decoder
from sam_refine_export.repository.repository import DECODER_ONNX, ENCODER_ONNX
from sam_refine_export.validation import reference, validate
from sam_refine_export.validation.cases import CHOICE_CASE, RANKINGS
from sam_refine_export.validation.validate import TOLERANCES, Tolerance
from sam_refine_export.validation.validation_report import ValidationReport, ValueCheck

FEW_CASES = [case for case in DECODER_CASES if case.prompts == 1]


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
            r"low_res_logits has the shape \(1, 'M', 'h_l', 'w_l'\), expected \('V', ",
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


def cpu_session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture
def decoder(repository):
    return cpu_session(repository / DECODER_ONNX)


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
        r"sam_mask_decoder: low_res_logits differs by up to \S+ and by \S+ in the root mean square "
        r"from PyTorch, allowed are 0\.001 and \S+ "
        r"\(N = 1, P = 1, K = 1, mask prompt none, single mask\)",
        report.mismatches[0],
    )


def test_check_mask_decoder_masks_of_equal_predicted_iou_are_each_right(
    decoder, mobile_sam, photo_embedding
):
    """With a tolerance that makes all three equal even the wrong choice passes; without, not."""
    case = next(
        case
        for case in DECODER_CASES
        if case.choice is MaskChoice.BEST_OF_THREE and case.prompts == 1
    )
    worst = OtherChoice(decoder, mobile_sam, case.inputs(photo_embedding))
    strict = TOLERANCES[Precision.FP32]
    lax = strict | {"iou_predictions": Tolerance(1.0, rms_absolute=1.0)}
    for tolerances, passes in ((strict, False), (lax, True)):
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


def take_the_best_of_all_four_masks(path, output, when):
    """Make a decoder's graph choose wrongly: look at all masks for this `MaskChoice`, too."""
    model = onnx.load(path)
    (looked_at,) = (
        node for node in model.graph.node if "chooser.is_one_of_three" in node.input
        and node.op_type == "Equal"
    )  # fmt: skip
    (flag,) = looked_at.output
    looked_at.output[0] = "is_right"
    model.graph.initializer.append(numpy_helper.from_array(np.array([when]), "wrong_for"))
    wrong = [
        onnx.helper.make_node("Equal", ["mask_choice", "wrong_for"], ["is_wrong"]),
        onnx.helper.make_node("Or", ["is_right", "is_wrong"], [flag]),
    ]
    for node in reversed(wrong):
        model.graph.node.insert(list(model.graph.node).index(looked_at) + 1, node)
    onnx.save(model, output)
    return output


def check_mask_choice(path, networks, embedding):
    tolerances = TOLERANCES[Precision.FP32]
    return ValidationReport(
        (), tuple(validate.check_mask_choice(path, networks, embedding, tolerances, cpu_session))
    )


def test_check_mask_choice_exported_graph_passes(repository, mobile_sam, photo_embedding):
    report = check_mask_choice(repository / DECODER_ONNX, mobile_sam, photo_embedding)
    assert len(report.values) == 6
    assert report.mismatches == ()


@pytest.mark.parametrize("when", [MaskChoice.SINGLE, MaskChoice.BEST_OF_THREE])
def test_check_mask_choice_best_of_all_four_masks_is_found(
    repository, mobile_sam, photo_embedding, tmp_path, when
):
    """Also where the cases' own predicted IoUs do not show it, as here with several masks."""
    wrong = take_the_best_of_all_four_masks(
        repository / DECODER_ONNX, tmp_path / "model.onnx", when
    )
    onnx.checker.check_model(wrong, full_check=True)
    report = check_mask_choice(wrong, mobile_sam, photo_embedding)
    assert [check.passed for check in report.values] == [
        choice is not when for choice in MaskChoice for _ in range(2)
    ]
    if when is MaskChoice.BEST_OF_THREE:
        cases = [case for case in DECODER_CASES if case.choice is when and case.prompts < 32]
        unnoticed = validate.check_mask_decoder(
            cpu_session(wrong), mobile_sam, photo_embedding, TOLERANCES[Precision.FP32], cases
        )
        assert all(check.passed for check in unnoticed)


@pytest.mark.parametrize("mask", [1, 2])
def test_check_mask_choice_parameters_of_a_mask_that_is_rarely_best_are_found(
    repository, mobile_sam, photo_embedding, mask
):
    other = copy.deepcopy(mobile_sam)
    with torch.no_grad():
        other.mask_decoder.output_hypernetworks_mlps[mask].layers[2].bias *= 1.01
    report = check_mask_choice(repository / DECODER_ONNX, other, photo_embedding)
    assert [check.passed for check in report.values] == [True, True, False, True, False, True]


def test_check_mask_choice_graph_without_the_bias_is_an_error(
    repository, mobile_sam, photo_embedding
):
    with pytest.raises(ExportError, match=r"model\.onnx has no parameter chooser\.iou_head\."):
        check_mask_choice(repository / ENCODER_ONNX, mobile_sam, photo_embedding)


def test_rankings_have_a_prompt_each_and_are_all_of_the_four_masks():
    assert len(RANKINGS) == CHOICE_CASE.prompts
    assert all(sorted(ranking) == [0, 1, 2, 3] for ranking in RANKINGS)


SETS_OF_MASKS = [s for size in range(1, 5) for s in itertools.combinations(range(4), size)]


@pytest.mark.parametrize("choose", [min, max])
@pytest.mark.parametrize("masks", SETS_OF_MASKS)
def test_rankings_any_other_rule_differs_from_the_right_ones(masks, choose):
    """The best (lowest rank) or worst of any set, against mask 0 and the best of masks 1 to 3."""
    found = [choose(masks, key=ranking.index) for ranking in RANKINGS]
    best_of_three = [min((1, 2, 3), key=ranking.index) for ranking in RANKINGS]
    assert (found == [0] * 4) == (masks == (0,))
    assert (found == best_of_three) == (masks == (1, 2, 3) and choose is min)


@pytest.fixture(scope="module")
def half_decoder(repository, photo_embedding, tmp_path_factory):
    """MobileSAM's decoder in float16."""
    path = tmp_path_factory.mktemp("half") / "model.onnx"
    feeds = [
        {name: tensor.numpy() for name, tensor in case.inputs(photo_embedding).items()}
        for case in FEW_CASES
    ]
    convert(repository / DECODER_ONNX, path, measure_ranges(repository / DECODER_ONNX, feeds))
    return path


def test_check_mask_decoder_half_precision_passes(half_decoder, mobile_sam, photo_embedding):
    session = session_with_real_rounding(half_decoder)
    tolerances = TOLERANCES[Precision.FP16]
    checks = validate.check_mask_decoder(
        session, mobile_sam, photo_embedding, tolerances, FEW_CASES
    )
    assert ValidationReport((), tuple(checks)).mismatches == ()


@pytest.mark.parametrize(
    "name",
    [
        "point_encoder.label_embeddings",
        "transformer.layers.0.image_to_token.out",
        "transformer.layers.1.token_to_image.value",
        "chooser.iou_head.layers.1.weight",
        "chooser.weights.1",
    ],
)
def test_check_mask_decoder_half_precision_weight_off_by_five_percent_is_found(
    half_decoder, mobile_sam, photo_embedding, tmp_path, name
):
    model = onnx.load(half_decoder)
    (parameter,) = (p for p in model.graph.initializer if p.name == name)
    array = numpy_helper.to_array(parameter)
    parameter.CopyFrom(numpy_helper.from_array((array * 1.05).astype(array.dtype), name))
    onnx.save(model, tmp_path / "model.onnx")
    session = session_with_real_rounding(tmp_path / "model.onnx")
    tolerances = TOLERANCES[Precision.FP16]
    checks = validate.check_mask_decoder(
        session, mobile_sam, photo_embedding, tolerances, FEW_CASES
    )
    assert ValidationReport((), tuple(checks)).mismatches != ()


@pytest.mark.parametrize(
    ("expected", "allowed", "rms_allowed"), [([], 0.1, 0.03), ([30.0, -40.0], 0.8, 0.3536)]
)
def test_tolerance_is_absolute_or_relative_to_the_values(expected, allowed, rms_allowed):
    tolerance = Tolerance(0.1, relative=0.02, rms_absolute=0.03, rms_relative=0.01)
    assert tolerance.of(np.array(expected)) == pytest.approx(allowed)
    assert tolerance.rms_of(np.array(expected)) == pytest.approx(rms_allowed, rel=1e-3)


def pairs(*of):
    """Which values the decoder's cases have together; `of` gives a value of a case."""
    return {tuple(value(case) for value in of) for case in DECODER_CASES}


def points(case):
    return case.points + 2 * case.has_box


def mode(case):
    return case.mode


def choice(case):
    return case.choice


def has_prompts(case):
    return case.prompts > 1


def has_mask_prompts(case):
    return case.mask_prompts > 1


def test_decoder_cases_cover_every_value():
    assert {case.prompts for case in DECODER_CASES} == {1, 7, 32}
    assert {points(case) for case in DECODER_CASES} == {1, 2, 3, 4}
    assert {case.mask_prompts for case in DECODER_CASES} == {1, 2, 3}


@pytest.mark.parametrize("value", [has_prompts, has_mask_prompts])
def test_decoder_cases_cover_each_mode_with_either_of_the_rest(value):
    assert pairs(mode, value) == set(itertools.product(MaskPromptMode, (False, True)))


def test_decoder_cases_cover_each_mode_with_each_choice():
    assert pairs(mode, choice) == set(itertools.product(MaskPromptMode, MaskChoice))


def test_decoder_cases_cover_each_choice_with_every_number_of_prompts_and_points():
    assert pairs(choice, lambda case: case.prompts) == set(
        itertools.product(MaskChoice, (1, 7, 32))
    )
    of_one_mask = (MaskChoice.SINGLE, MaskChoice.BEST_OF_THREE)
    assert pairs(choice, points) >= set(itertools.product(of_one_mask, (1, 2, 3, 4)))


@pytest.mark.parametrize(
    ("found", "expected", "largest", "rms"),
    [
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 3.5], 0.5, 0.25),
        ([], [], 0.0, 0.0),
        ([1.0], [1.0, 2.0], math.inf, math.inf),
        ([math.nan], [1.0], math.inf, math.inf),
        ([math.inf], [math.inf], math.inf, math.inf),
    ],
)
def test_differences(found, expected, largest, rms):
    assert validate.differences(np.array(found), np.array(expected)) == (largest, rms)


def test_differences_reference_that_is_no_number_is_no_number():
    differences = validate.differences(np.array([1.0]), np.array([math.nan]))
    assert all(math.isnan(difference) for difference in differences)


def value_check(max_difference, rms_difference):
    """Allowed are 0.002 and 0.001."""
    return ValueCheck(
        "m", "low_res_logits", "PyTorch", "a", max_difference, 2e-3, rms_difference, 1e-3
    )


@pytest.mark.parametrize(
    ("max_difference", "rms_difference", "passes"),
    [
        (0.0, 0.0, True),
        (2e-3, 1e-3, True),
        (2.1e-3, 0.0, False),
        (0.0, 1.1e-3, False),
        (math.nan, 0.0, False),
        (0.0, math.nan, False),
        (math.inf, math.inf, False),
    ],
)
def test_value_check_passes_up_to_its_tolerances(max_difference, rms_difference, passes):
    assert value_check(max_difference, rms_difference).passed == passes


def test_report_names_what_did_not_pass():
    checks = (value_check(1e-6, 1e-6), value_check(math.nan, 1e-6), value_check(2e-3, 5e-3))
    start, end = "m: low_res_logits differs by up to", "allowed are 0.002 and 0.001 (a)"
    assert ValidationReport((), checks).mismatches == (
        f"{start} nan and by 1e-06 in the root mean square from PyTorch, {end}",
        f"{start} 0.002 and by 0.005 in the root mean square from PyTorch, {end}",
    )
