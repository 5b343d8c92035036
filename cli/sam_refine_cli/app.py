"""The subcommands, one module each; what a subcommand needs is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from sam_refine_cli.commands import (
    demo,
    embed,
    evaluate,
    export,
    health,
    info,
    refine,
    serve,
    tune,
    ui,
)
from sam_refine_cli.console import INTERRUPTED, print_error

app = typer.Typer(
    name="sam-refine",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"sam-refine {info.own_version()}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Segment Anything refines coarse label maps, served on NVIDIA Triton.

    The first time:

        sam-refine export
        sam-refine serve

    and in another terminal:

        sam-refine health
        sam-refine refine photo.jpg --logits scores.npy --out refined/

    Each command has a --help of its own, with examples. They end with 0
    where all went well, 1 where something failed, 2 for wrong usage.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _add(command: Callable[..., None], help_panel: str) -> None:
    @wraps(command)
    def run(**values: Any) -> None:
        try:
            command(**values)
        except KeyboardInterrupt:
            print_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    app.command(rich_help_panel=help_panel)(run)


for _command in (
    refine.refine,
    embed.embed,
    evaluate.evaluate,
    tune.tune,
    health.health,
    info.info,
):
    _add(_command, "Call a server")
for _command in (export.export, serve.serve, demo.demo, ui.ui):
    _add(_command, "Models, server, page")


_USAGE_ERROR: Any = typer.BadParameter.__base__
"""Of click, which is a package of its own or typer's copy of it, by typer's version."""


def run() -> int:
    """Do what the command line says; the exit code."""
    try:
        code = app(standalone_mode=False)
    except _USAGE_ERROR as error:
        command = error.ctx.command_path if error.ctx else "sam-refine"
        print_error(f"{error.format_message()} ({command} --help)")
        return 2
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0
