"""Which tensors are asked for, and what is made of those that come: the rows of the outputs."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from sam_refine.contract import (
    EVERY_CALL,
    OUTPUTS,
    REGIONS,
    STAGES,
    InvalidRequestError,
    Outcome,
    RefineOptions,
)
from sam_refine_client import RefineResult, Region
from sam_refine_client.response import Output, output_names, result_of

REGION_ROWS = [row for row in OUTPUTS if row.asked_by == REGIONS]
TIMES = {"STAGE_TIMES_MS": np.arange(len(STAGES), dtype=np.float32)}
SIZES = {"H": 4, "W": 6, "C": 3, "N": 1, "Q": 2}


def arrays_of(names):
    """Two regions on a map of 4 x 6: an array for each tensor that is named."""
    arrays = {}
    for row in OUTPUTS:
        for tensor in row.tensors:
            if tensor.name in names:
                shape = [SIZES.get(size, size) for size in tensor.shape]
                arrays[tensor.name] = np.arange(np.prod(shape)).reshape(shape).astype(tensor.dtype)
    return arrays


# --- The rows and what users read ------------------------------------------------------------


def test_fields_of_a_region_are_the_rows_that_regions_ask_for_in_order():
    assert [field.name for field in fields(Region)] == [row.field for row in REGION_ROWS]


def test_every_other_row_that_is_asked_for_is_a_field_of_the_result():
    found = {row.field for row in OUTPUTS if row.asked_by not in (None, REGIONS)}
    own = {"regions", "request_id", "warnings", "ignore_label", "class_ids", "image"}
    assert found | own == {field.name for field in fields(RefineResult)}


def test_outputs_that_a_caller_may_name_are_those_that_ask_for_a_row():
    asked = {row.asked_by for row in OUTPUTS} - {None, EVERY_CALL}
    assert asked == set(get_args(Output))


def test_guide_and_docstring_have_the_regions_fields_and_the_names_in_files():
    guide = (Path(__file__).parents[3] / "docs/client.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\| `regions` \| every .*$", guide, re.MULTILINE)
    described = RefineResult.save.__doc__ or ""
    for row in REGION_ROWS:
        assert f"`{row.field}`" in line
        assert f"`{row.saved_as}`" in described


# --- What is asked for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "ignore_label", "suffix"),
    [(256, None, "_UINT8"), (256, 255, "_UINT8"), (257, None, ""), (2, 256, ""), (2, -1, "")],
)
def test_labels_are_asked_for_in_one_byte_where_each_fits_into_it(classes, ignore_label, suffix):
    options = RefineOptions(ignore_label=ignore_label)
    names = output_names(("coarse_labels", "logits", "labels", "labels"), classes, options)
    assert names == (
        f"COARSE_LABELS{suffix}",
        "REFINED_LOGITS",
        f"REFINED_LABELS{suffix}",
        "STAGE_TIMES_MS",
    )


def test_regions_are_asked_for_with_all_that_a_region_has():
    names = output_names(["regions"], 2, RefineOptions())
    assert names == (*(row.tensor.name for row in REGION_ROWS), "STAGE_TIMES_MS")
    assert output_names([], 2, RefineOptions()) == ("STAGE_TIMES_MS",)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("labels", "outputs must be several names, got the text 'labels'"),
        (
            ["labels", EVERY_CALL],
            "outputs must be among labels, coarse_labels, logits, regions, got 'every call'",
        ),
    ],
)
def test_outputs_that_are_none_are_refused(outputs, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        output_names(outputs, 2, RefineOptions())


# --- What comes ------------------------------------------------------------------------------


def test_result_of_the_times_alone_has_nothing_else():
    result = result_of(TIMES, "x")
    assert (result.labels, result.coarse_labels, result.logits, result.regions) == (None,) * 4
    assert result.timings == dict(zip(STAGES, range(len(STAGES)), strict=True))
    assert result.request_id == "x"


@pytest.mark.parametrize("suffix", ["", "_UINT8"])
def test_labels_of_either_tensor_are_int32(suffix):
    names = [f"REFINED_LABELS{suffix}", f"COARSE_LABELS{suffix}"]
    result = result_of(arrays_of(names) | TIMES, "x")
    for labels in (result.labels, result.coarse_labels):
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, np.arange(24).reshape(4, 6))


def test_regions_have_what_came_as_python_values_that_files_and_sets_take():
    names = output_names(["regions"], 2, RefineOptions())
    result = result_of(arrays_of(names), "x")
    assert result.regions == (
        Region(0, (0, 1, 2, 3), 0.0, 0.0, False, Outcome.REFINED, 0, 0.0),
        Region(1, (4, 5, 6, 7), 1.0, 1.0, True, Outcome.LOW_IOU, 1, 1.0),
    )
    assert len(set(result.regions)) == 2
    assert type(result.regions[1].kept) is bool


def test_map_without_regions_has_an_empty_tuple_of_them():
    arrays = {row.tensor.name: arrays_of([row.tensor.name])[row.tensor.name][:0] for row in OUTPUTS}
    assert result_of(arrays | TIMES, "x").regions == ()


def test_files_have_every_region_field_and_every_array_of_the_rows(tmp_path):
    names = {row.tensor.name for row in OUTPUTS}
    result = result_of(arrays_of(names), "x")
    regions, arrays = result.save(tmp_path, formats=["regions", "npz"])
    for listed in json.loads(regions.read_text(encoding="utf-8")):
        assert list(listed) == [row.field for row in REGION_ROWS]
    with np.load(arrays) as saved:
        assert set(saved) == {row.saved_as for row in OUTPUTS if row.saved_as} | {
            "stages",
            "request_id",
        }
        for row in REGION_ROWS:
            assert saved[row.saved_as].dtype == row.tensor.dtype
            np.testing.assert_array_equal(
                saved[row.saved_as], arrays_of(names)[row.tensor.name], row.field
            )
