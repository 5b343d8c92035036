"""The data sets of `make bench-quality`, and its tables held to the committed results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_refine_benchmarks.quality.data_sets import averaged, read_data_sets
from sam_refine_benchmarks.quality.table import BEGIN, END, summary, table, update

ROOT = Path(__file__).parents[4]
RESULTS = ROOT / "benchmarks/results"


def test_tables_are_those_of_the_results():
    document = json.loads((RESULTS / "quality.json").read_text(encoding="utf-8"))
    assert (RESULTS / "quality.md").read_text(encoding="utf-8") == table(document)
    assert summary(document) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_update_replaces_the_lines_between_its_marks(tmp_path):
    document = json.loads((RESULTS / "quality.json").read_text(encoding="utf-8"))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    update(page, document)
    assert page.read_text(encoding="utf-8") == f"before\n{summary(document)}\nafter\n"
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="has no lines"):
        update(page, document)


def test_averaged_truth_is_the_share_of_each_class_in_a_cell():
    truth = np.array([[0, 0, 1, 255], [0, 1, 1, 255]])
    cells = averaged(truth, 2, 2.0)
    np.testing.assert_allclose(cells, [[[0.75, 0.25]], [[0.25, 0.75]]])


@pytest.mark.parametrize("made", [False, True])
def test_data_set_is_read_from_its_file(tmp_path, made):
    for name in ("images", "truth", "scores"):
        (tmp_path / name).mkdir()
    for name in "abc":
        Image.new("RGB", (8, 6)).save(tmp_path / f"images/{name}.png")
        np.save(tmp_path / f"truth/{name}", np.zeros((6, 8), np.uint8))
        np.save(tmp_path / f"scores/{name}", np.full((2, 3, 4), 0.5, np.float32))
    scores = {"averaged_over_px": 2.0, "classes": 2} if made else {"logits": "scores"}
    entry = {"name": "n", "images": "images", "truth": "truth", "every": 2, **scores}
    path = tmp_path / "sets.json"
    path.write_text(json.dumps([entry]), encoding="utf-8")
    (data_set,) = read_data_sets(path)
    samples = data_set.samples()
    assert [Path(sample.name).name for sample in samples] == ["a.png", "c.png"]
    assert all(sample.logits.shape == (2, 3, 4) for sample in samples)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"logit": "x"}, "logit is no key of a data set"),
        ({}, "must have either logits or averaged_over_px"),
        ({"logits": "x", "averaged_over_px": 1}, "must have either logits or averaged_over_px"),
    ],
)
def test_data_set_that_makes_no_sense_is_refused(tmp_path, entry, message):
    path = tmp_path / "sets.json"
    listed = [{"name": "n", "images": "i", "truth": "t", **entry}]
    path.write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_data_sets(path)
