"""Checks of single values."""

import re

import pytest

from sam_refine.contract import ArrayLibrary, InvalidRequestError, choice


@pytest.mark.parametrize("value", ["torch", ArrayLibrary.TORCH])
def test_choice_of_a_member_or_its_value_is_the_member(value):
    assert choice("array_library", value, ArrayLibrary) is ArrayLibrary.TORCH


@pytest.mark.parametrize("value", ["jax", "TORCH", None, 1, ["torch"]])
@pytest.mark.parametrize(
    ("rule", "message"), [(None, "one of 'numpy', 'torch'"), ("numpy or torch", "numpy or torch")]
)
def test_choice_of_anything_else_is_refused_by_its_rule(value, rule, message):
    expected = f"library must be {message}, got {value!r}"
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(expected)}$"):
        choice("library", value, ArrayLibrary, rule)
