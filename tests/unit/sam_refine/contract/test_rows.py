"""Options as rows: a field that somebody adds is checked, or its class cannot be made."""

from dataclasses import dataclass
from enum import Enum

import pytest

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine.contract.rows import Choice, OptionTable, option

TEXTS = {"label": "Foo", "help": "What it does.", "reason": "Why."}


class Colour(Choice):
    RED = "red", "as blood"
    BLUE = "blue", "as the sky"


class Unexplained(Choice):
    RED = "red"


class PlainEnum(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class MoreOptions(RefineOptions):
    """The options of a request and one more of each kind."""

    flag: bool = option(False, **TEXTS)
    count: int = option(3, range=(1, 5), **TEXTS)
    ratio: float = option(0.5, range=(0.0, 1.0), **TEXTS)
    colour: Colour = option(Colour.RED, **TEXTS)
    flag_or_none: bool | None = option(None, **TEXTS)
    count_or_none: "int | None" = option(None, range=(1, 5), **TEXTS)
    ratio_or_none: float | None = option(None, range=(0.0, 1.0), **TEXTS)
    colour_or_none: Colour | None = option(None, **TEXTS)


KINDS = pytest.mark.parametrize(
    ("name", "text", "value", "rule"),
    [
        ("flag", "true", True, "true or false"),
        ("count", "5", 5, r"an integer in \[1, 5\]"),
        ("ratio", "0.25", 0.25, r"a finite number in \[0, 1\]"),
        ("colour", "blue", Colour.BLUE, "one of 'red', 'blue'"),
    ],
)


@KINDS
@pytest.mark.parametrize("suffix", ["", "_or_none"])
def test_added_field_is_checked_without_another_edit(name, text, value, rule, suffix):
    name += suffix
    for given in (text, value):
        got = getattr(MoreOptions.from_parameters({name: given}), name)
        assert got == value
        assert type(got) is type(value)
    for wrong in ("banana", 9, [1]):
        with pytest.raises(InvalidRequestError, match=f"^{name} must be {rule}, got "):
            MoreOptions(**{name: wrong})


@KINDS
def test_added_field_takes_none_only_where_its_type_does(name, text, value, rule):
    assert getattr(MoreOptions(**{f"{name}_or_none": None}), f"{name}_or_none") is None
    with pytest.raises(InvalidRequestError, match=f"^{name} must be {rule}, got None$"):
        MoreOptions(**{name: None})


def test_subclass_goes_on_checking_what_it_inherits():
    assert list(MoreOptions.rows)[: len(RefineOptions.rows)] == list(RefineOptions.rows)
    with pytest.raises(InvalidRequestError, match="iou_threshold must be"):
        MoreOptions(iou_threshold=2)
    assert "count" not in RefineOptions.rows


@pytest.mark.parametrize("annotation", [str, list, list[int], dict, PlainEnum, int | str, object])
@pytest.mark.parametrize("base", [OptionTable, RefineOptions])
def test_field_of_a_type_without_a_rule_is_refused_when_its_class_is_made(base, annotation):
    with pytest.raises(TypeError, match=r"^foo must be bool, int, float or a Choice.+, got .+"):
        type("Options", (base,), {"__annotations__": {"foo": annotation}, "foo": _option()})


@pytest.mark.parametrize("declared", [{}, {"foo": 3}, {"foo": None}])
@pytest.mark.parametrize("base", [OptionTable, RefineOptions])
def test_field_without_a_row_is_refused_when_its_class_is_made(base, declared):
    with pytest.raises(TypeError, match=r"^foo must have a row, as `option\(...\)` makes it, got"):
        type("Options", (base,), {"__annotations__": {"foo": int}, **declared})


@pytest.mark.parametrize(
    ("annotation", "range_"), [(int, None), (float | None, None), (bool, (0, 1)), (Colour, (0, 1))]
)
def test_field_with_the_wrong_kind_of_range_is_refused_when_its_class_is_made(annotation, range_):
    with pytest.raises(TypeError, match=r"^foo must have a range if it is a number, and only then"):
        type("Options", (OptionTable,), {"__annotations__": {"foo": annotation},
                                         "foo": _option(range=range_)})  # fmt: skip


def test_choice_without_an_explanation_is_refused_when_the_class_is_made():
    with pytest.raises(TypeError, match=r"^foo must have an explanation for each choice, got"):
        type("Options", (OptionTable,), {"__annotations__": {"foo": Unexplained},
                                         "foo": _option()})  # fmt: skip


def _option(**parts):
    return option(None, **TEXTS, **parts)


def test_help_of_a_choice_explains_its_values():
    assert MoreOptions.rows["colour"].full_help == "What it does. red: as blood; blue: as the sky."
    assert MoreOptions.rows["count"].full_help == "What it does."
    assert MoreOptions.rows["colour"].choices == tuple(Colour)
    assert MoreOptions.rows["count"].choices == ()


def test_choice_is_its_value_and_is_found_by_it():
    assert Colour("red") is Colour.RED
    assert Colour.RED.value == Colour.RED == "red"
