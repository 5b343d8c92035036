"""`python -m sam_refine_benchmarks.bulk`: bulk against its server's best rate, and its plan."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from sam_refine_benchmarks.bulk.foretold import foretold
from sam_refine_benchmarks.bulk.rate import rates
from sam_refine_benchmarks.measuring.machine import ROOT
from sam_refine_benchmarks.sides.server import supervised

LEAST_RATIO = 0.95
"""Of bulk's rate to the server's."""
MOST_OFF = 0.2
"""Of what was foretold to what was taken, from 1."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    url: Annotated[
        str | None, typer.Option(help="A server that nobody else uses; none: one is started.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Of a turn, and of a shard.")] = 30,
    turns: Annotated[int, typer.Option(min=1, help="Of each side.")] = 6,
    shards: Annotated[int, typer.Option(min=1, help="That are foretold.")] = 10,
    concurrency: Annotated[int, typer.Option(min=1)] = 4,
    model_repository: Annotated[Path, typer.Option(file_okay=False)] = (
        ROOT / "build/model_repository"
    ),
) -> None:
    """Hold `sam-refine bulk` against `refine_many` of the same server, and against `plan`.

    Ends with 1 where bulk is below 0.95 of the server's best rate, or a plan more than 20 % off.
    """
    with ExitStack() as stack:
        if url is None:
            server = stack.enter_context(supervised(model_repository, Path(sys.executable)))
            url = server.url
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sam_refine_bulk_")))
            for _ in range(2)
        ]
        ratio = rates(url, folders[0], images, turns, concurrency, typer.echo)
        plan = foretold(url, folders[1], images, shards, concurrency, typer.echo)
    raise typer.Exit(0 if ratio >= LEAST_RATIO and abs(plan - 1) <= MOST_OFF else 1)


if __name__ == "__main__":
    app()
