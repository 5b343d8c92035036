"""One request from tensors to tensors, with networks that are none."""

from dataclasses import fields

import numpy as np
import pytest

from sam_refine.algorithm.pipeline import Refinement, RegionReport
from sam_refine.contract import OUTPUTS, SAM_REFINE, InvalidRequestError, Limits
from sam_refine.service.answer import answer

SIZE = (64, 96)
EMBEDDING = np.full((1, 256, 64, 64), 0.5, np.float32)
OPTIONS = {"iou_threshold": 0.5, "min_region_area": 4}


def request_tensors():
    """Class 0 everywhere, class 1 in two boxes, one of them too small to be a region."""
    scores = np.full((2, *SIZE), 0.1, np.float32)
    scores[0] = 0.4
    scores[1, 20:40, 30:50] = 0.7
    scores[1, 60:62, 90:92] = 0.7
    return {"IMAGE": np.zeros((*SIZE, 3), np.uint8), "LOGITS": scores}


def decode(embedding, prompts):
    """Each mask is all of the image; only the first prompt's IoU is high enough."""
    ious = np.where(np.arange(len(prompts)) == 0, 0.9, 0.2).astype(np.float32)[:, None]
    height, width = prompts.low_res_size
    kept = int((ious > prompts.iou_threshold).sum())
    return np.full((kept, 1, height, width), 8, np.float32), ious


def run(tensors=None, outputs=SAM_REFINE.output_names, parameters=OPTIONS, **arguments):
    arguments = {"embed": lambda image, image_id: EMBEDDING, "decode": decode} | arguments
    limits = arguments.pop("limits", Limits())
    return answer(tensors or request_tensors(), parameters, outputs, limits, **arguments)


def test_answer_has_the_contract_s_names_and_dtypes():
    outputs = run()
    assert set(outputs) == set(SAM_REFINE.output_names)
    for spec in SAM_REFINE.outputs:
        assert outputs[spec.name].dtype == spec.dtype, spec.name
        assert outputs[spec.name].flags.c_contiguous, spec.name
    np.testing.assert_array_equal(outputs["REGION_KEPT"], [True, False])
    np.testing.assert_array_equal(outputs["IOU_PREDICTIONS"], outputs["REGION_IOUS"][:1])


@pytest.mark.parametrize("row", OUTPUTS, ids=lambda row: row.tensor.name)
def test_rows_of_the_outputs_name_values_that_a_refinement_has(row):
    names = {field.name for field in fields(Refinement)}
    names |= {f"regions.{field.name}" for field in fields(RegionReport)} | {"regions.kept"}
    assert row.source in names


def test_whatever_is_reported_of_a_region_has_an_output():
    sources = {row.source for row in OUTPUTS}
    assert {f"regions.{field.name}" for field in fields(RegionReport)} <= sources


def test_answer_has_the_outputs_that_were_asked_for_and_no_other():
    assert set(run(outputs=["REGION_KEPT", "BOXES"])) == {"REGION_KEPT", "BOXES"}
    assert run(outputs=[]) == {}


def test_answer_reports_the_refinement_before_it_writes_it():
    reported = []
    outputs = run(report=reported.append)
    (refinement,) = reported
    assert refinement.regions.kept.tolist() == [True, False]
    assert refinement.dropped_components == 1
    assert (outputs["REFINED_LABELS"] != outputs["COARSE_LABELS"]).sum() == 4
    assert refinement.changed_share() == 4 / (64 * 96)


def test_answer_without_labels_asked_for_computes_none():
    reported = []
    run(outputs=["REGION_KEPT"], report=reported.append)
    assert reported[0].labels is None
    assert reported[0].changed_share() is None


def test_answer_of_a_map_without_regions_changed_nothing_and_needs_no_embedding():
    def never(image, image_id):
        raise AssertionError("the embedding is not needed")

    reported = []
    run(parameters={"min_region_area": 10**6}, embed=never, report=reported.append)
    assert reported[0].changed_share() == 0
    assert reported[0].dropped_components == 3


def test_answer_reports_nothing_of_a_request_that_breaks_a_rule():
    reported = []
    with pytest.raises(InvalidRequestError, match="LOGITS"):
        run({"IMAGE": np.zeros((*SIZE, 3), np.uint8)}, report=reported.append)
    assert reported == []


def test_answer_names_the_image_to_who_embeds_it():
    named = []

    def embed(image, image_id):
        named.append((image.shape, image_id))
        return EMBEDDING

    run(parameters={**OPTIONS, "image_id": "frame 7"}, embed=embed)
    assert named == [((*SIZE, 3), "frame 7")]


@pytest.mark.parametrize(("bytes_per_prompt", "calls"), [(10, 1), (60, 2)])
def test_answer_decodes_as_many_prompts_at_once_as_the_deployment_says(
    monkeypatch, bytes_per_prompt, calls
):
    monkeypatch.setattr("sam_refine.service.answer.free_memory_bytes", lambda: 100)
    batches = []

    def counting(embedding, prompts):
        batches.append(len(prompts))
        return decode(embedding, prompts)

    run(decode=counting, limits=Limits(bytes_per_prompt=bytes_per_prompt))
    assert len(batches) == calls
    assert sum(batches) == 2


def test_answer_computes_where_place_puts_what_came():
    placed = []

    def place(array):
        placed.append(array.shape)
        return array

    run(place=place)
    assert placed == [(2, *SIZE), EMBEDDING.shape]
