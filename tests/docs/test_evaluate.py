"""docs/evaluate.md: its commands and its Python run, and JSON has the keys that it says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.cases import DEMO_DATA, coarse_scores
from support.command_line import run

PAGE = (Path(__file__).parents[2] / "docs/evaluate.md").read_text(encoding="utf-8")


@pytest.fixture
def directory(tmp_path):
    """Two labelled images, and what else the page's commands read."""
    for name in ("images", "scores", "truth"):
        (tmp_path / name).mkdir()
    truth = np.zeros((100, 150), np.uint8)
    truth[50:, 75:] = 1
    truth[:5] = 255
    for name in ("street", "yard"):
        with Image.open(DEMO_DATA / "photo.jpg") as photo:
            photo.resize((150, 100)).save(tmp_path / f"images/{name}.jpg")
        np.save(tmp_path / f"scores/{name}.npy", coarse_scores())
        Image.fromarray(truth).save(tmp_path / f"truth/{name}.png")
    (tmp_path / "options.json").write_text('{"iou_threshold": 0.9}', encoding="utf-8")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\nf\n", encoding="utf-8")
    return tmp_path


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def leaves(value):
    """The keys of all objects in what JSON has."""
    if isinstance(value, list):
        return {key for each in value for key in leaves(each)}
    if not isinstance(value, dict):
        return set()
    return set(value) | {key for each in value.values() for key in leaves(each)}


def test_commands_run_and_json_has_the_keys_of_the_table(repository, directory):
    printed = []
    for block in blocks("sh"):
        command, *arguments = shlex.split(block.replace("\\\n", " "))
        assert command == "sam-refine"
        done = run(*arguments, "--local", repository, cwd=directory)
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert len(printed) == 2
    (shown,) = blocks("text")
    names = re.findall(r"^(pixels changed|made \w+|regions kept|time per image) ", shown, re.M)
    assert len(names) == 5
    for name in (*names, "mIoU", "pixel accuracy", "accuracy at borders", "boundary IoU"):
        assert re.search(rf"^{name} ", shown, re.M)
        assert re.search(rf"^{name} ", printed[0], re.M)

    found = json.loads((directory / "evaluation.json").read_text(encoding="utf-8"))
    table = PAGE.partition("## JSON and the page")[2].partition("`--report DIR`")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.M)
    keys = [key for names, _ in rows for key in re.findall(r"`(\w+)`", names)]
    assert set(keys) == set(found)
    said = {key for row in rows for cell in row for key in re.findall(r"`(\w+)`", cell)}
    given = {"plain", "lenient", "tuned", *"abcdef", "image"}
    assert leaves(found) - set(found["options"]["plain"]) - given == said
    assert list(found["option_sets"]) == ["plain", "lenient", "tuned"]
    assert found["options"]["tuned"]["iou_threshold"] == 0.9


def test_python_runs(repository, directory, monkeypatch, capsys):
    (code,) = blocks("python")
    monkeypatch.chdir(directory)
    exec(code.replace("build/model_repository", str(repository)), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["plain", "lenient"]
    for line in lines:
        assert re.fullmatch(r"\w+ [+-]\d+\.\d\d \d+", line)
