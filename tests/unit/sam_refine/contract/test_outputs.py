"""The rows of the outputs."""

from __future__ import annotations

import pytest

from sam_refine.contract import EVERY_CALL, OUTPUTS, REGIONS, SAM_REFINE, OutputRow, TensorSpec


def test_outputs_of_sam_refine_are_the_rows_in_order_each_with_its_second_offer():
    assert SAM_REFINE.output_names[:3] == (
        "REFINED_LABELS",
        "REFINED_LABELS_UINT8",
        "REFINED_LOGITS",
    )
    assert len(SAM_REFINE.outputs) == len(OUTPUTS) + sum(row.has_uint8 for row in OUTPUTS)


def test_row_without_a_second_offer_has_one_tensor():
    tensor = TensorSpec("A", "INT32", ("H", "W"))
    assert OutputRow(tensor, "a").tensors == (tensor,)
    small = TensorSpec("A_UINT8", "UINT8", ("H", "W"))
    assert OutputRow(tensor, "a", has_uint8=True).tensors == (tensor, small)


def test_row_is_in_names_that_have_any_of_its_tensors():
    row = OutputRow(TensorSpec("A", "INT32", ("Q",)), "a", has_uint8=True)
    assert row.is_in({"B", "A_UINT8"})
    assert row.is_in(["A"])
    assert not row.is_in({"B"})


@pytest.mark.parametrize("row", OUTPUTS, ids=lambda row: row.tensor.name)
def test_what_the_client_asks_for_has_a_field_and_a_name_in_files(row):
    assert bool(row.field) == bool(row.saved_as) == (row.asked_by is not None)
    assert row.is_map == (row.asked_by not in (None, REGIONS, EVERY_CALL))
    if row.asked_by == REGIONS:
        assert row.tensor.shape[0] == "Q"


def test_names_of_fields_and_files_are_distinct():
    fields = [(row.asked_by == REGIONS, row.field) for row in OUTPUTS if row.field]
    files = [row.saved_as for row in OUTPUTS if row.saved_as]
    assert len(set(fields)) == len(fields) == len(set(files)) == len(files)
