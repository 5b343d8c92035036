"""README.md: its blocks, pasted one after the other into a clone whose demo has run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sam_refine_cli.app import make_app
from support.servers import free_ports, server_ports

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
MAKE, SERVE, PYTHON = re.findall(r"^```(?:sh|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """What `make demo` leaves: `.venv`, and the models in `build/`."""
    (tmp_path / "build").mkdir()
    (tmp_path / "build/model_repository").symlink_to(repository)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "cli").symlink_to(ROOT / "cli")
    return tmp_path


@pytest.fixture
def paste(clone: Path) -> Iterator:
    """paste(command, block) runs a block in the clone, and gives what it prints.

    The server has free ports in place of its own. What the blocks have started and not ended is
    ended with the test.
    """
    ports = {**server_ports(), "health_port": free_ports(1)[0]}
    flags = " ".join(f"--{name.replace('_', '-')} {port}" for name, port in ports.items())
    url = f"127.0.0.1:{ports['grpc_port']}"
    sessions: list[int] = []

    def run(command: list[str], block: str) -> str:
        block = block.replace("sam-refine serve", f"sam-refine serve {flags}")
        block = re.sub(r"sam-refine (health|refine)", rf"sam-refine \1 --url {url}", block)
        block = block.replace("127.0.0.1:8001", url)
        output = clone / "printed.txt"  # a pipe would stay open as long as the server runs
        with output.open("w") as file:
            process = subprocess.Popen(
                [*command, block], cwd=clone, stdout=file, stderr=file, start_new_session=True
            )
        sessions.append(process.pid)
        assert process.wait(timeout=200) == 0, output.read_text()
        return output.read_text()

    yield run
    for session in sessions:
        with suppress(ProcessLookupError):
            os.killpg(session, signal.SIGTERM)
    for session in sessions:
        while is_there(session):
            time.sleep(0.05)


def is_there(session: int) -> bool:
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


def test_first_block_is_targets_of_the_makefile():
    targets = re.findall(r"^make (\w+) +#", MAKE, re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}: " in makefile for target in targets)


@pytest.mark.triton
def test_blocks_run_as_pasted_one_after_the_other(paste, clone):
    printed = paste(["bash", "-euc"], SERVE)
    assert "regions" in printed
    assert (clone / "build/refined/labels.png").stat().st_size > 100
    (expected,) = re.findall(r"^# (\(.*)$", PYTHON, re.MULTILINE)
    assert paste([".venv/bin/python", "-c"], PYTHON).strip() == expected


def test_commands_within_the_text_have_the_options_that_are_shown():
    prose = re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for line in re.findall(r"`(sam-refine [a-z][^`]*)`", prose)]
    assert {words[1] for words in commands} >= {"refine", "ui", "export"}
    program: Any = typer.main.get_command(make_app())
    for _, name, *words in commands:
        command = program.commands[name]
        known = {flag for option in command.params for flag in option.opts}
        assert {word for word in words if word.startswith("--")} <= known, name
