"""Names and colours of classes."""

import numpy as np
import pytest

from sam_refine_client.files.pictures import class_palette
from sam_refine_ui.classes import (
    class_name,
    css_colour,
    names_or_numbers,
    palette,
    split_names,
)


def test_palette_has_grey_for_the_background_and_the_client_s_colours_after_it():
    assert palette().shape == (256, 3)
    assert palette().dtype == np.uint8
    np.testing.assert_array_equal(palette()[1:], class_palette(255))
    distances = np.abs(palette().astype(int)[1:9] - palette()[0]).sum(-1)
    assert distances.min() > 40  # apart from every brush


@pytest.mark.parametrize(
    ("class_id", "expected"),
    [(0, "#6e737d"), (1, "#e65550"), (256, "transparent"), (-1, "transparent")],
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
