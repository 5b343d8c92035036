"""Algorithm 4 written straight in PyTorch = the pipeline in process = the server.

With real weights on a real photo. The straight version has its own preprocessing, networks in
PyTorch (once the image encoder as published), and the exact parts of `support.exact`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sam_refine.algorithm.pipeline import refine
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import SAM_REFINE, FailedRegions
from sam_refine.service.answer import output_tensors
from sam_refine.service.images import to_canvas
from sam_refine_benchmarks.sides import straight
from sam_refine_client.transport.local_networks import CPU, Networks
from sam_refine_export.networks.sam_networks import SamNetworks
from support import exact
from support.cases import CASES, Case

pytestmark = pytest.mark.xdist_group("export, callers")  # all share `expected`

NOTHING_KEPT = {"all_failed", "none_found"}
MAPS = ("REFINED_LABELS", "REFINED_LOGITS")


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def expected(quick_networks) -> Any:
    """The straight result of a case, by name, computed once."""
    results: dict[str, dict[str, np.ndarray]] = {}

    def of(name: str) -> dict[str, np.ndarray]:
        if name not in results:
            results[name] = straight_outputs(CASES[name](), quick_networks)
        return results[name]

    return of


def straight_outputs(case: Case, sam: SamNetworks) -> dict[str, np.ndarray]:
    """The outputs of `contract.SAM_REFINE` by the straight version."""
    result = straight.refine(sam, case.image, case.scores, case.options, case.labels, exact.EXACT)
    return {
        "REFINED_LABELS": result.labels,
        "REFINED_LOGITS": result.logits,
        "IOU_PREDICTIONS": result.ious[result.kept],
        "BOXES": result.boxes_xyxy_image[result.kept],
        "REGION_CLASSES": result.classes,
        "REGION_BOXES": result.boxes_xyxy_image,
        "REGION_SCORES": result.scores,
        "REGION_IOUS": result.ious,
        "REGION_KEPT": result.kept,
    }


def assert_equal(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for tensor in ("REGION_CLASSES", "REGION_BOXES", "REGION_KEPT", "BOXES"):
        np.testing.assert_array_equal(actual[tensor], expected[tensor], err_msg=tensor)
    for tensor in ("REGION_SCORES", "REGION_IOUS", "IOU_PREDICTIONS"):
        np.testing.assert_allclose(
            actual[tensor], expected[tensor], rtol=0, atol=1e-3, err_msg=tensor
        )
    same = np.mean(actual["REFINED_LABELS"] == expected["REFINED_LABELS"])
    assert same >= 0.9999, f"{1 - same:.3%} of the labels differ"
    off = np.abs(actual["REFINED_LOGITS"] - expected["REFINED_LOGITS"]) > 1e-3
    # Where a mask's logit is within rounding of zero, its score is there or not.
    assert off.any(axis=0).mean() <= 1e-4, f"{off.any(axis=0).sum()} pixels have other logits"


def test_case_is_what_its_name_says(name, expected):
    kept = expected(name)["REGION_KEPT"]
    assert kept.any() == (name not in NOTHING_KEPT)
    assert (len(kept) == 0) == (name == "none_found")


def outputs_in_process(case: Case, networks: Networks) -> dict[str, np.ndarray]:
    refinement = refine(
        ClassScores(case.scores, case.size_image),
        case.labels,
        case.options,
        embed=lambda: networks.embed(*to_canvas(case.image)),
        decode=networks.decode,
        free_memory_bytes=int(12e9),
        want_logits=True,
    )
    return output_tensors(refinement, SAM_REFINE.output_names)


def test_pipeline_in_process_equals_straight(name, expected, networks):
    assert_equal(outputs_in_process(CASES[name](), networks), expected(name))


def test_pipeline_on_the_export_equals_straight_on_what_was_published(
    mobile_sam_repository, published_networks
):
    case, networks = CASES["trident"](), Networks(mobile_sam_repository, [CPU])
    expected = straight_outputs(case, published_networks)
    assert_equal(outputs_in_process(case, networks), expected)


@pytest.mark.triton
def test_server_equals_straight(name, expected, infer):
    case = CASES[name]()
    half = case.scores.dtype == np.float16
    inputs = {"IMAGE": case.image, "LOGITS_FP16" if half else "LOGITS": case.scores}
    if case.labels is not None:
        inputs["LABELS"] = case.labels
    outputs = infer(inputs, SAM_REFINE.output_names, case.options.to_parameters())
    assert_equal(outputs, expected(name))


def test_cases_together_keep_and_fail_regions_in_every_mask_prompt_mode(expected):
    kept_and_failed = {
        CASES[name]().options.mask_prompt
        for name in CASES
        if set(expected(name)["REGION_KEPT"].tolist()) == {True, False}
    }
    assert {mode.value for mode in kept_and_failed} == {"none", "sam", "trident"}


def test_cases_together_cover_every_rule_for_failed_regions(expected):
    failed = {
        CASES[name]().options.failed_regions
        for name in CASES
        if name not in NOTHING_KEPT and not expected(name)["REGION_KEPT"].all()
    }
    assert failed == set(FailedRegions)
