"""The command `sam-refine` as a user runs it."""

from __future__ import annotations

import functools
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.main import get_command

from sam_refine_cli.app import make_app
from support.forked.commands import ForkingCommands

SAM_REFINE = (sys.executable, "-m", "sam_refine_cli")
COMMANDS = (
    "refine",
    "embed",
    "evaluate",
    "tune",
    "health",
    "info",
    "export",
    "serve",
    "demo",
    "ui",
    "bulk run",
    "bulk retry-failed",
    "bulk status",
    "bulk verify",
    "plan",
)
"""The subcommands; of `bulk` those below it."""


@functools.cache
def _forking() -> ForkingCommands:
    return ForkingCommands(SAM_REFINE[-1])


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end: forked from a process that has imported it, where that is the same."""
    words = list(map(str, arguments))
    environment = options.get("env") or os.environ
    if options.keys() <= {"cwd", "env"} and _forking().takes(environment):
        return _forking().run(words, str(options.get("cwd") or Path.cwd()), environment)
    return subprocess.run([*SAM_REFINE, *words], capture_output=True, text=True, **options)


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Run it beside the test."""
    return subprocess.Popen(
        [*SAM_REFINE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def one_line(stderr: str) -> str:
    """The error that a command printed, which is all that it printed."""
    (line,) = stderr.splitlines()
    prefix, _, message = line.partition(": ")
    assert prefix == "sam-refine", line
    return message


def option_names(command: str) -> list[str]:
    """The long names of a subcommand's options."""
    parameters = command_of(get_command(make_app()), command.split()).params
    return [name for parameter in parameters for name in parameter.opts if name.startswith("--")]


def command_of(program: Any, words: list[str]) -> Any:
    """The command that a line begins with; `bulk IN OUT` is `bulk run IN OUT`."""
    found = program.commands[words[0]]
    if hasattr(found, "commands"):
        return found.commands[words[1] if words[1] in found.commands else "run"]
    return found


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal's two ends: what a person sees, and what a program writes to."""
    near, far = pty.openpty()
    try:
        yield near, far
    finally:
        os.close(near)


def shown_on(terminal: int) -> str:
    """All that programs write to a terminal, until the last of them has ended."""
    shown = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # nobody has its other end any more
            break
        if not data:
            break
        shown += data
    return shown.decode()


def on_terminal(*command: object, **environment: str) -> str:
    """What a program prints that runs in a terminal."""
    with terminal() as (near, far):
        process = subprocess.Popen(
            list(map(str, command)), stdin=far, stdout=far, stderr=far,
            env=os.environ | {"TERM": "xterm"} | environment,
        )  # fmt: skip
        os.close(far)
        shown = shown_on(near)
        assert process.wait() == 0, shown
    return shown
