"""The page: what it says, what it shows, and that it needs nothing else."""

from __future__ import annotations

import base64
import io
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import RefineOptions
from sam_refine_quality import evaluate
from sam_refine_quality.report.gallery import Change, Gallery
from sam_refine_quality.report.page import write_report
from sam_refine_quality.report.pictures import (
    CHANGE_COLOURS,
    changed_picture,
    pictures,
)
from sam_refine_quality.report.rows import class_rows, facts, figure_rows
from support.quality import ScriptedClient, sample

VOID, CLASSES = 9, 3


def drawn(name, coarse_at, refined_at):
    """A sample of truth 0 but for a row of void, and its refined map; each 4 x 5 pixels."""
    truth, coarse, refined = (np.zeros((4, 5), np.int32) for _ in range(3))
    truth[3] = VOID
    for at, label in coarse_at.items():
        coarse[at] = label
    for at, label in refined_at.items():
        refined[at] = label
    return sample(name, truth, coarse, CLASSES), refined


DRAWN = [
    # made right, made wrong, neither, changed in void
    drawn("gain<1>", {(0, 0): 1, (0, 1): 1, (0, 3): 1}, {(0, 2): 1, (0, 3): 2, (3, 0): 1}),
    drawn("loss", {}, {(1, 1): 1, (1, 2): 1}),
]


@pytest.fixture
def evaluated():
    refined = [labels for _, labels in DRAWN]
    gallery = Gallery()
    client = ScriptedClient(lambda labels, options: refined.pop(0))
    broken = sample("broken", np.full((4, 5), 7), np.zeros((4, 5), np.int32), CLASSES)
    evaluation = evaluate(
        client,
        [*(each for each, _ in DRAWN), broken],
        {"set & co": RefineOptions()},
        ignore_label=VOID,
        class_names=["a<b>", "b", "c"],
        watch=gallery.add,
    )
    return evaluation, gallery


def test_changed_pixels_have_the_colour_of_what_became_of_them(evaluated):
    _, gallery = evaluated
    (exhibit,) = gallery.gained("set & co")
    picture = np.asarray(changed_picture(exhibit.image, exhibit))
    right, wrong, neither = (CHANGE_COLOURS[change] for change in list(Change)[1:])
    coloured = {(0, 0): right, (0, 1): right, (0, 2): wrong, (0, 3): neither}
    for at in np.ndindex(4, 5):
        if at in coloured:
            assert tuple(picture[at]) == coloured[at]
        else:
            assert len(set(picture[at].tolist())) == 1
    assert tuple(picture[3, 0]) == tuple(picture[3, 1])


def test_pictures_of_an_image_have_one_size(evaluated):
    _, gallery = evaluated
    sizes = {picture.size for picture in pictures(gallery.lost("set & co")[0])}
    assert sizes == {(525, 420)}


def test_pictures_of_a_photo_that_was_turned_upright_are_upright(evaluated):
    _, gallery = evaluated
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (4, 5)).save(file, "PNG", exif=exif)  # 4 high, 5 wide when upright
    exhibit = replace(gallery.lost("set & co")[0], image=file.getvalue())
    assert {picture.size for picture in pictures(exhibit)} == {(525, 420)}


class Reader(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self):
        super().__init__()
        self.references, self.text, self.widths = [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.references += [attributes[name] for name in ("src", "href") if name in attributes]
        if "bar" in attributes.get("class", "").split():
            self.widths.append(attributes["style"])

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader


def test_page_has_all_figures_and_pictures_and_refers_to_nothing(evaluated, tmp_path):
    evaluation, gallery = evaluated
    path = write_report(tmp_path / "new/report", evaluation, gallery)
    assert list(path.parent.iterdir()) == [path]
    assert path.name == "index.html"
    page = read(path)
    text = " ".join(" ".join(page.text).split())

    of_set = evaluation.option_sets["set & co"]
    rows = [*figure_rows(of_set), *class_rows(of_set, evaluation.class_names)]
    for row in rows:
        assert f"{row.coarse} {row.refined} {row.difference} {row.interval}" in text
    for words in ("set & co", "a<b>", "gain<1>", "loss", "Gained most", "Lost most", "broken",
                  *facts(of_set).values()):  # fmt: skip
        assert words in text
    assert page.widths[:2] == [
        f"width: {row:.2f}%" for row in (rows[4].coarse_share, rows[4].refined_share)
    ]

    assert len(page.references) == 2 * 3
    for reference in page.references:
        kind, _, data = reference.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (525, 420)
    content = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import|<script|<link", content)


def test_page_has_names_that_are_no_text(evaluated, tmp_path):
    evaluation, gallery = evaluated
    unnamed = replace(evaluation, failed={os.fsdecode(b"caf\xe9.jpg"): "broken"})
    path = write_report(tmp_path, unnamed, gallery)
    assert "caf\\udce9.jpg" in path.read_text(encoding="utf-8")


def test_rows_say_what_is_better_where_the_interval_has_zero_outside(evaluated):
    truth = np.zeros((4, 5), np.int32)
    truth[:, 3:] = 1
    wrong = 1 - truth
    for coarse, refined, verdict in ((wrong, truth, "better"), (truth, wrong, "worse"),
                                     (truth, truth, "")):  # fmt: skip
        client = ScriptedClient(lambda labels, options, refined=refined: refined)
        samples = [sample(name, truth, coarse, CLASSES) for name in "ab"]
        of_set = evaluate(client, samples).option_sets["default"]
        assert {row.verdict for row in figure_rows(of_set)} == {verdict}
        rows = class_rows(of_set, ("a", "b", "c"))
        assert [row.coarse for row in rows][2] == "-"
        assert (rows[2].interval, rows[2].verdict, rows[2].coarse_share) == ("-", "", 0)


def test_rows_of_one_image_have_a_dash_for_the_interval():
    one, refined = DRAWN[0]
    client = ScriptedClient(lambda labels, options: refined)
    of_set = evaluate(client, [one], ignore_label=VOID).option_sets["default"]
    for row in figure_rows(of_set):
        assert (row.interval, row.verdict) == ("-", "")
    accuracy = figure_rows(of_set)[1]
    assert (accuracy.coarse, accuracy.refined, accuracy.difference) == ("80.00", "86.67", "+6.67")
    assert facts(of_set)["pixels changed"] == "26.7%"
    assert facts(of_set)["made right"] == "50.0% of these"
