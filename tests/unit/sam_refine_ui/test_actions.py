"""What the page says of what somebody gave it, where they gave it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam_refine_client import PALETTES, RefineResult
from sam_refine_client.reading.coarse_map import read_coarse_map
from sam_refine_client.reading.notes import Notes
from sam_refine_ui.actions import NOT_SAID, Actions, Source, in_words_of_page, open_tab
from sam_refine_ui.example import Example
from sam_refine_ui.inputs import TABLES
from sam_refine_ui.knobs import DEFAULTS, values_of

SIZE = 30, 40


class Client:
    """Reads as the client does, and refines nothing."""

    def refine(self, image, *, labels, options, timeout_s):
        notes = Notes()
        coarse = read_coarse_map(
            None, labels, notes, size_hw=image.shape[:2], ignore_label=options.ignore_label
        )
        own = coarse.own(coarse.labels)
        return RefineResult(own, own, None, (), {"decode": 1.0}, "x", warnings=notes.sentences)


@pytest.fixture
def about_map(tmp_path):
    """What is said beside a label map that was added, as HTML."""
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "photo.png")
    example = Example(tmp_path / "photo.png", tmp_path / "scores.npy", ())
    actions = Actions(Client(), example, tmp_path / "results")

    def said(labels):
        Image.fromarray(labels).save(tmp_path / "map.png")
        _, about, *_ = actions.refine(
            Source.LABELS,
            str(tmp_path / "photo.png"),
            None,
            str(tmp_path / "map.png"),
            "",
            None,
            NOT_SAID,
            "",
            NOT_SAID,
            *values_of(DEFAULTS),
        )
        assert str(tmp_path) not in about.value, "where uploads lie is nobody's business"
        return about.value

    return said


def test_what_was_doubtful_of_a_map_is_said_once_and_by_the_name_of_its_file(about_map):
    trimap = np.zeros(SIZE, np.uint8)
    trimap[8:22, 10:30], trimap[12:18, 15:25] = 128, 255
    said = about_map(trimap)
    assert "map.png of 0, 128 and 255 are three classes; if they are a trimap" in said
    assert said.count("trimap") == 1


def test_what_the_client_says_of_a_map_is_said_by_the_name_of_its_file(about_map):
    labels = np.zeros((*SIZE, 3), np.uint8)
    labels[:10], labels[20:] = 1, 255
    said = about_map(labels)
    assert "map.png: of three equal channels one is taken" in said
    assert "map.png: 255 is taken as void" in said


@pytest.mark.parametrize(
    ("sentence", "on_the_page"),
    [
        ("labels: say so by ignore_label=-1", 'Labels: say so by "Ignore label" -1'),
        ("map.png of 0 and 255", "map.png of 0 and 255"),
        ("give activation=softmax (or sigmoid)", 'Give "Activation" softmax (or sigmoid)'),
        (
            "map.png in colours need palette=, a file of colours and names or one of voc",
            'map.png in colours need "Colours", one of voc',
        ),
        ("the photo must be a picture", "The photo must be a picture"),
    ],
)
def test_options_are_called_as_they_are_on_the_page(sentence, on_the_page):
    assert in_words_of_page(sentence) == on_the_page


def test_messages_about_the_map_of_another_tab_go_as_one_is_opened():
    source, about_map, about_work = open_tab(Source.PAINTED)
    assert source is Source.PAINTED
    assert not about_map.visible
    assert not about_work.visible


def test_tables_of_colours_have_the_names_that_people_know():
    assert set(TABLES) == set(PALETTES)
