"""What the subcommands print."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from sam_refine_client import RefineResult

stdout = Console(highlight=False, markup=False)
stderr = Console(stderr=True, highlight=False, markup=False)


@contextmanager
def errors_in_one_line(*expected: type[Exception]) -> Iterator[None]:
    """End with exit code 1 and one line on stderr where one of `expected` is raised."""
    try:
        yield
    except expected as error:
        # Plain, in one piece: rich would wrap it and read brackets as markup.
        print(f"sam-refine: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def need_extra(extra: str, *modules: str) -> None:
    """End with exit code 1 where the packages of an extra are missing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        print(
            f'sam-refine: {", ".join(missing)} missing: pip install "sam-refine[{extra}]"',
            file=sys.stderr,
        )
        raise typer.Exit(1)


def printable(text: str) -> str:
    """Text from outside, in quotes and with escapes where it has control characters."""
    return text if text.isprintable() else ascii(text)


def print_result(result: RefineResult) -> None:
    """A table of a refinement that has labels, coarse labels and regions."""
    assert result.regions is not None
    assert result.labels is not None
    kept = sum(region.kept for region in result.regions)
    changed = float(np.mean(result.labels != result.coarse_labels))
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("regions", str(len(result.regions)))
    table.add_row("kept", str(kept))
    table.add_row("failed", str(len(result.regions) - kept))
    table.add_row("pixels changed", f"{changed:.1%}")
    for stage, time_ms in result.timings.items():
        table.add_row(stage.replace("_", " "), f"{time_ms:.0f} ms")
    stdout.print(table)
