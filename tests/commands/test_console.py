"""What is printed comes whole: in a pipe in one line, on a terminal folded."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from rich.table import Table

from sam_refine.contract import MODELS, SAM_REFINE
from sam_refine_cli.console import LineConsole, print_facts
from sam_refine_cli.report import Report
from support.command_line import COMMANDS, on_terminal, option_names, run
from support.fake_triton import FakeTriton

LONG = "/".join(["", *["a_folder_of_a_long_name"] * 12, "model_repository"])
NARROW = {"COLUMNS": "20", "TERM": "xterm"}
COLOURED = os.environ | NARROW | {"FORCE_COLOR": "1"}
READY = {"health": "ready", "info": "ready"}
PRINT_FACTS = f"""
from sam_refine_cli.console import print_facts, stdout
print_facts({{"server": "{LONG}", "live": "yes"}})
stdout.print("{LONG}")
"""


@pytest.fixture(params=[{}, {"FORCE_COLOR": "1"}], ids=["plain", "coloured"])
def narrow(monkeypatch, request):
    """A pipe that claims to be a narrow terminal."""
    for name, value in (NARROW | request.param).items():
        monkeypatch.setenv(name, value)


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_table_in_a_pipe_has_a_line_for_each_row(narrow, capsys):
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    table.add_column("path")
    table.add_column("instances", justify="right")
    rows = [[LONG, f"{number}{LONG}", "1" * 50] for number in range(3)]
    for row in rows:
        table.add_row(*row)
    LineConsole().print_table(table)
    heading, *lines = without_colours(capsys.readouterr().out).splitlines()
    assert heading.split() == ["model", "path", "instances"]
    assert [line.split() for line in lines] == rows


@pytest.mark.parametrize("is_stderr", [False, True])
def test_line_in_a_pipe_is_one_line(narrow, capsys, is_stderr):
    LineConsole(stderr=is_stderr).print(f"reading {LONG} [bold]")
    captured = capsys.readouterr()
    assert captured[is_stderr] == f"reading {LONG} [bold]\n"
    assert captured[not is_stderr] == ""


def test_facts_in_a_pipe_have_a_line_each(narrow, monkeypatch, capsys):
    monkeypatch.setattr("sam_refine_cli.console.stdout", LineConsole())
    print_facts({"server": LONG, "live": "yes"})
    lines = without_colours(capsys.readouterr().out).splitlines()
    assert [line.split() for line in lines] == [["server", LONG], ["live", "yes"]]


@pytest.mark.parametrize("columns", ["20", "80"])
def test_facts_on_a_terminal_are_folded_and_whole(columns):
    """A table is folded by us, a line by the terminal."""
    shown = on_terminal(sys.executable, "-c", PRINT_FACTS, COLUMNS=columns)
    *table, line = without_colours(shown).splitlines()
    assert max(map(len, table)) <= int(columns)
    assert len(table) > len(LONG) // int(columns)
    assert "".join("".join(table).split()) == f"server{LONG}liveyes"
    assert line == LONG


def test_console_of_something_that_is_no_file_folds_nothing(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert LineConsole().width > 10_000


@pytest.mark.parametrize("command", ["health", "info"])
def test_tables_of_a_server_in_a_narrow_pipe_are_whole(command):
    with FakeTriton() as server:
        reason = f"{LONG} has no numpy"
        server.models["sam_refine"] = ("UNAVAILABLE", reason)
        done = run(command, "--url", server.address, env=COLOURED)
    output = without_colours(done.stdout + done.stderr)
    assert server.address in output
    assert reason in output
    assert "…" not in output
    rows = [line.split()[:2] for line in output.splitlines() if line]
    for model in MODELS:
        state = {"health": "not", "info": "unavailable"} if model is SAM_REFINE else READY
        assert [model.name, state[command]] in rows


def test_json_in_a_narrow_pipe_is_one_line():
    with FakeTriton() as server:
        done = run("info", "--url", server.address, "--json", env=COLOURED)
    assert [json.loads(line)["server"] for line in done.stdout.splitlines()] == [server.address]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_in_a_narrow_pipe_names_every_option_and_has_an_example(command):
    done = run(*command.split(), "--help", env=os.environ | NARROW)
    assert done.returncode == 0
    assert f" sam-refine {command}" in done.stdout.partition("Usage")[2].partition("\n")[2]
    options = option_names(command)
    assert options
    assert [name for name in options if name not in done.stdout] == []


def test_skipped_images_are_counted_and_say_nothing_of_the_time_that_is_left():
    report = Report(1000)
    for number in range(990):
        report.skipped(Path(f"{number}.jpg"))
    (task,) = report._progress.tasks
    assert task.completed == 990
    assert (task.speed, task.time_remaining) == (None, None)
    report.done(Path("990.jpg"), [], {})
    assert task.completed == 991
    assert task.speed is None  # of one image nothing is known yet
    report.failed(Path("991.jpg"), ValueError("no"))
    assert task.time_remaining is not None
    assert task.fields["failures"] == "1 failed"
