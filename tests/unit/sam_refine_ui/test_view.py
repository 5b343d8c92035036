"""A result as the page shows it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from sam_refine.contract import Outcome
from sam_refine_client import Health, RefineResult, Region
from sam_refine_client.files.colours import class_palette
from sam_refine_ui import view

PHOTO = np.full((6, 8, 3), 128, np.uint8)


@pytest.fixture
def result():
    coarse = np.zeros((6, 8), np.int32)
    labels = coarse.copy()
    coarse[:, 6:] = 2
    labels[:, 4:] = 2
    return RefineResult(
        labels=labels,
        coarse_labels=coarse,
        logits=None,
        regions=(
            Region(0, (0, 0, 5, 5), 0.98765, 0.91234, True, Outcome.REFINED, -1, 0.0),
            Region(2, (6, 0, 7, 5), 0.5, 0.25, False, Outcome.LOW_IOU, -1, 0.0),
        ),
        timings={"split_regions": 4.4, "decode": 1234.0},
        request_id="x",
    )


@pytest.mark.parametrize(
    ("health", "kind", "text"),
    [
        (Health(True, True, {}, None, ()), "ready", "Ready: press Refine."),
        (Health(True, False, {}, None, ("a < b",)), "wrong", "Reachable, but not ready: a &lt; b"),
        (Health(False, False, {}, None, ("no answer",)), "wrong", "Not reachable: no answer"),
    ],
)
def test_state_is_a_sentence_with_what_is_wrong(health, kind, text):
    assert view.state(health) == f"<div role='status' class='{kind}'>{text}</div>"


def test_before_and_after_are_the_coarse_and_the_refined_map_in_the_page_s_colours(result):
    before, after = view.before_and_after(view.Shown.of(PHOTO, result))
    assert before.size == after.size
    middle = np.array([before.width * 9 // 16, before.height // 2])
    colours = [np.array(picture.getpixel(tuple(middle.tolist()))) for picture in (before, after)]
    for colour, class_id in zip(colours, (0, 2), strict=True):
        np.testing.assert_allclose(
            colour, (128 + class_palette(3)[class_id].astype(int)) / 2, atol=0.5
        )


def test_changes_are_in_the_colour_of_the_new_class_on_a_darker_photo(result):
    picture = np.asarray(view.changes(view.Shown.of(PHOTO, result)))
    np.testing.assert_array_equal(picture[:, 4:6], np.tile(class_palette(3)[2], (6, 2, 1)))
    unchanged = np.concatenate([picture[:, :4], picture[:, 6:]], 1)
    np.testing.assert_array_equal(unchanged, np.full((6, 6, 3), 128 // view.FADED))


def test_changes_to_a_class_without_a_colour_are_white(result):
    labels = np.where(result.labels == 2, -1, 0).astype(np.int32)
    changed = replace(result, labels=labels)
    assert (np.asarray(view.changes(view.Shown.of(PHOTO, changed)))[:, 4:] == 255).all()


def test_changes_are_cropped_to_where_they_are_and_whole_where_there_are_none():
    labels = np.zeros((100, 200), np.int32)
    photo = np.zeros((100, 200, 3), np.uint8)
    coarse = labels.copy()
    coarse[50:52, 5:8] = 1
    shown = view.Shown(photo, coarse, labels)
    assert view.changes(shown).size == (8 + view.MARGIN_PX, 2 + 2 * view.MARGIN_PX)
    assert view.changes(view.Shown(photo, labels, labels)).size == (200, 100)


def test_a_pixel_of_the_cropped_picture_is_in_the_middle_of_what_is_enlarged():
    labels = np.zeros((100, 200), np.int32)
    coarse = labels.copy()
    coarse[50:52, 105:108] = 1
    shown = view.Shown(np.zeros((100, 200, 3), np.uint8), coarse, labels)
    assert view.window_at(shown, view.MARGIN_PX, view.MARGIN_PX) == (slice(38, 63), slice(80, 130))
    nothing_changed = view.Shown(shown.photo, labels, labels)
    assert view.window_at(nothing_changed, 0, 99) == (slice(75, 100), slice(0, 50))


def test_enlarged_is_where_most_has_changed():
    photo = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    labels = np.zeros((100, 200), np.int32)
    coarse = labels.copy()
    coarse[:25, 50:100] = 1
    shown = view.Shown(photo, coarse, labels)
    part = view.Shown(photo[:25, 50:100], coarse[:25, 50:100], labels[:25, 50:100])
    for found, expected in zip(view.enlarged(shown), view.before_and_after(part), strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_class_count_is_of_both_maps_and_the_regions(result):
    assert view.class_count(result) == 3
    regions = (*result.regions, Region(7, (0, 0, 1, 1), 0.5, 0.5, True, Outcome.REFINED, -1, 0.0))
    assert view.class_count(replace(result, regions=regions)) == 8
    assert view.class_count(replace(result, coarse_labels=result.labels + 9)) == 12


def test_legend_has_the_classes_of_either_map_and_escapes_their_names(result):
    html = view.legend(result, ("a <b> & c", "unused"))
    assert re.findall(r"background:(#\w+)", html) == ["#6e737d", "#f5be32"]
    assert "0 a &lt;b&gt; &amp; c" in html
    assert "unused" not in html


def test_numbers_say_what_changed_and_how_long_it_took(result):
    html = view.numbers(result, 1.26)
    assert "failed" not in html, "what SAM leaves alone is no failure"
    for value in ("25.0%", "1 of 2", "1.3 s", "split regions 4 ms", "decode 1.2 s"):
        assert value in html


def test_rows_have_what_the_headings_say(result):
    assert view.rows(result.regions, ("sky",)) == [
        ["0 sky", "0, 0, 5, 5", 0.988, 0.912, "yes"],
        ["2", "6, 0, 7, 5", 0.5, 0.25, "no"],
    ]
    assert {len(row) for row in view.rows(result.regions, ())} == {len(view.TABLE_HEADINGS)}


def test_rows_of_very_many_regions_are_the_first_500(result):
    assert len(view.rows(result.regions * 400, ())) == 500
