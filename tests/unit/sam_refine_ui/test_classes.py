"""Names and colours of classes."""

import pytest

from sam_refine_ui.classes import (
    class_name,
    css_colour,
    names_or_numbers,
    split_names,
)


@pytest.mark.parametrize(
    ("class_id", "expected"),
    [(0, "#6e737d"), (1, "#437ad8"), (256, "transparent"), (-1, "transparent")],
)
def test_css_colour_of_a_class(class_id, expected):
    assert css_colour(class_id) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ()),
        ("", ()),
        (" , ,", ()),
        ("sky", ("sky",)),
        (" sky ,, red  car ,", ("sky", "", "red car")),
    ],
)
def test_split_names_by_commas(text, expected):
    assert split_names(text) == expected


def test_names_or_numbers_has_one_for_each_class():
    assert names_or_numbers(("sky", "", "car", "tree"), 3) == ["sky", "1", "car"]
    assert names_or_numbers(("sky",), 3) == ["sky", "1", "2"]


def test_class_name_is_the_number_with_the_name_it_has():
    assert [class_name(i, ("sky", "")) for i in (0, 1, 2, 255)] == ["0 sky", "1", "2", "255"]
