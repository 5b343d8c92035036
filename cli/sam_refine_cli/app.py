"""The subcommands, one module each: which is imported when it is asked for; and what it needs, when
it runs."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from itertools import pairwise
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from sam_refine_cli.console import INTERRUPTED, print_any_name, print_error

COMMANDS: Final = {
    **dict.fromkeys(("refine", "embed", "evaluate", "tune", "health", "info"), "Call a server"),
    **dict.fromkeys(("bulk", "plan"), "Data sets of millions"),
    **dict.fromkeys(("export", "serve", "demo", "ui"), "Models, server, page"),
}
"""The subcommands, in the order in which --help has them, and under what; a module each."""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from sam_refine_cli.commands import info

        typer.echo(f"sam-refine {info.own_version()}")
        raise typer.Exit


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


class _Command(TyperCommand):
    """An option whose value was forgotten says so instead of taking the next one for it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        takes_value = {
            name: parameter
            for parameter in self.params
            if parameter.param_type_name == "option" and not getattr(parameter, "is_flag", False)
            for name in parameter.opts
        }
        names = {name for parameter in self.params for name in parameter.opts}
        for given, value in pairwise(args):
            if given in takes_value and value in names:
                what = takes_value[given].metavar or "a value"
                ctx.fail(f"{given} needs {what}, got the option {value}")
        return super().parse_args(ctx, args)


@cache
def make_app(word: str | None = None) -> typer.Typer:
    """The command line; where its first word is a subcommand, it has no other: made sooner."""
    app = typer.Typer(
        name="sam-refine",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_main)
    for name, panel in COMMANDS.items():
        if word in (name, None) or word not in COMMANDS:
            module = import_module(f"sam_refine_cli.commands.{name}")
            if name == "bulk":
                app.add_typer(_bulk(module), name=name, rich_help_panel=panel)
            else:
                _add(app, getattr(module, name), panel)
    return app


def _add(
    app: typer.Typer,
    command: Callable[..., None],
    help_panel: str | None = None,
    name: str | None = None,
) -> None:
    @wraps(command)
    def run(**values: Any) -> None:
        try:
            command(**values)
        except KeyboardInterrupt:
            print_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    app.command(name, cls=_Command, rich_help_panel=help_panel)(run)


class _RunByDefault(TyperGroup):
    """`bulk IN OUT` is `bulk run IN OUT`; a folder named as a subcommand is given as ./status."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _bulk(module: Any) -> typer.Typer:
    bulk = typer.Typer(
        cls=_RunByDefault,
        no_args_is_help=True,
        help="Refine a data set of any size, shard by shard: `sam-refine bulk IN OUT`.",
    )
    for name in ("run", "status", "retry-failed", "verify"):
        _add(bulk, getattr(module, name.replace("-", "_")), name=name)
    return bulk


TRACEBACK: Final = "SAM_REFINE_TRACEBACK"
"""The variable of the environment that shows where a fault of this program is."""
_USAGE_ERROR: Any = typer.BadParameter.__base__
"""Of click, which is a package of its own or typer's copy of it, by typer's version."""


def run() -> int:
    """Do what the command line says; the exit code."""
    print_any_name()
    # What Pillow warns of is said in a line of our own, or is of no concern, such as odd EXIF data.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        word = sys.argv[1] if len(sys.argv) > 1 else None
        code = make_app(word)(prog_name="sam-refine", standalone_mode=False)
    except _USAGE_ERROR as error:
        command = error.ctx.command_path if error.ctx else "sam-refine"
        print_error(f"{error.format_message()} ({command} --help)")
        return 2
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:  # before there is a command
        print_error("interrupted")
        return INTERRUPTED
    except Exception as error:  # the outer edge: whatever it is, one line
        if os.environ.get(TRACEBACK):
            raise
        print_error(
            f"a fault of sam-refine itself: {type(error).__name__}: {error}; {TRACEBACK}=1 shows "
            "where it is"
        )
        return 1
    return code if isinstance(code, int) else 0
