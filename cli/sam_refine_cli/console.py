"""What the subcommands print."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console, ConsoleDimensions
from rich.table import Table

if TYPE_CHECKING:
    from sam_refine_client import RefineResult

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it."""

UNFOLDED: Final = 1_000_000
"""Columns of what is no terminal: more than any line has."""


class LineConsole(Console):
    """A console that folds at the width of a terminal, and nowhere else.

    Rich takes a pipe or a file to have 80 columns, or those of COLUMNS, and cuts tables down to
    them: a path in a log would be neither found by `grep` nor copied. Lines that are no tables are
    left to the terminal to fold.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, soft_wrap=True)

    @property
    def size(self) -> ConsoleDimensions:
        found = super().size
        # not `is_terminal`, which FORCE_COLOR makes true of a pipe
        return found if self.file.isatty() else ConsoleDimensions(UNFOLDED, found.height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._width, self._height = size

    def print_table(self, table: Table) -> None:
        """Print a table; a cell too long for the terminal is folded, never cut."""
        for column in table.columns:
            column.overflow = "fold"
        self.print(table, soft_wrap=False)


stdout = LineConsole()
stderr = LineConsole(stderr=True)


def print_any_name() -> None:
    """Let stdout take names of files that are no text in its encoding: as the bytes that they are.

    A name that has none, which no file has, is escaped.
    """

    def bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
        try:
            return codecs.lookup_error("surrogateescape")(error)
        except UnicodeError:
            return codecs.lookup_error("backslashreplace")(error)

    codecs.register_error(bytes_or_escapes.__name__, bytes_or_escapes)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors=bytes_or_escapes.__name__)


def error_line(text: str) -> str:
    """An error as one line, whatever line ends it came with."""
    return f"sam-refine: {' '.join(text.split())}"


def print_error(text: str) -> None:
    """One line on stderr."""
    # Plain, in one piece: rich would wrap it and read brackets as markup.
    print(error_line(text), file=sys.stderr)


@contextmanager
def errors_in_one_line(*expected: type[Exception]) -> Iterator[None]:
    """End with exit code 1 and one line on stderr where one of `expected` is raised."""
    try:
        yield
    except expected as error:
        print_error(str(error))
        raise typer.Exit(1) from error


def need_extra(extra: str, *modules: str) -> None:
    """End with exit code 1 where the packages of an extra are missing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        print_error(f'{", ".join(missing)} missing: pip install "sam-refine[{extra}]"')
        raise typer.Exit(1)


def printable(text: str) -> str:
    """Text from outside, in quotes and with escapes where it has control characters."""
    return text if text.isprintable() else ascii(text)


def print_facts(facts: Mapping[str, str], *, are_numbers: bool = False) -> None:
    """Names and values, a line each; numbers stand below each other."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right" if are_numbers else "left")
    for name, value in facts.items():
        table.add_row(name, value)
    stdout.print_table(table)


def print_result(result: RefineResult) -> None:
    """A table of a refinement that has labels, coarse labels and regions."""
    assert result.regions is not None
    kept = sum(region.kept for region in result.regions)
    print_facts(
        {
            "regions": str(len(result.regions)),
            "kept": str(kept),
            "left alone": str(len(result.regions) - kept),
            "pixels changed": f"{result.changed_fraction:.1%}",
            **{
                stage.replace("_", " "): f"{time_ms:.0f} ms"
                for stage, time_ms in result.timings.items()
            },
        },
        are_numbers=True,
    )
