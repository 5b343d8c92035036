"""docs/command_line.md: its commands run, and --json has the keys that it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.cases import DEMO_DATA
from support.command_line import run

PAGE = (Path(__file__).parents[2] / "docs/command_line.md").read_text(encoding="utf-8")


@pytest.fixture
def directory(tmp_path):
    """What the commands are about: a photo and a folder of two, with their truth."""
    for folder in ("images", "scores", "truth"):
        (tmp_path / folder).mkdir()
    for image, scores in (
        ("photo.jpg", "photo.npy"),
        ("images/street.jpg", "scores/street.npy"),
        ("images/yard.jpg", "scores/yard.npy"),
    ):
        shutil.copyfile(DEMO_DATA / "photo.jpg", tmp_path / image)
        shutil.copyfile(DEMO_DATA / "coarse_scores.npy", tmp_path / scores)
    for name in ("street", "yard"):
        np.save(tmp_path / f"truth/{name}.npy", np.zeros((400, 600), np.uint8))
    truth = tmp_path / "cityscapes/gtFine/aachen/a_gtFine_labelTrainIds.png"
    for image in (
        tmp_path / "photos/aachen/a_rgb.jpg",
        tmp_path / "cityscapes/leftImg8bit/aachen/a_leftImg8bit.jpg",
    ):
        image.parent.mkdir(parents=True)
        shutil.copy(DEMO_DATA / "photo.jpg", image)
    for file in (truth, tmp_path / "scores/aachen/a.npy"):
        file.parent.mkdir(parents=True)
    shutil.copy(DEMO_DATA / "coarse_scores.npy", tmp_path / "scores/aachen/a.npy")
    Image.fromarray(np.zeros((400, 600), np.uint8)).save(truth)
    return tmp_path


@pytest.mark.triton
def test_commands_run_and_json_has_the_keys_of_the_table(server, directory):
    lines = [
        shlex.split(line)
        for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(lines) == 12
    printed = {}
    for command, *arguments in lines:
        assert command == "sam-refine"
        if "refine" in arguments:
            arguments += ["--min-region-area", "225"]  # a second each instead of ten
        elif "evaluate" in arguments:
            arguments += ["--option-set", "fast:min_region_area=225"]
        done = run(*arguments, "--url", f"127.0.0.1:{server.grpc_port}", cwd=directory)
        assert done.returncode == 0, done.stderr
        printed[tuple(arguments)] = done.stdout
    assert {path.name for path in (directory / "refined").iterdir()} >= {"labels.png", "street"}
    assert [path.name for path in (directory / "refined/aachen").iterdir()] == ["a.png"]
    (pseudo,) = (directory / "pseudo/gtFine/aachen").iterdir()
    assert pseudo.name == "a_gtFine_labelTrainIds.png"

    rows = re.findall(r"^\| (`\w+`.*?) \|", PAGE, re.MULTILINE)
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    (records,) = (
        [json.loads(line) for line in text.splitlines()]
        for arguments, text in printed.items()
        if "--json" in arguments and arguments[0] == "refine"
    )
    assert [set(record) for record in records] == [keys - {"error", "message"}] * 2
