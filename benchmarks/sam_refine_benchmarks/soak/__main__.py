"""`python -m sam_refine_benchmarks.soak`: a supervised server, callers, and somebody who kills."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sam_refine_benchmarks.measuring.machine import ROOT

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long callers call.")] = 10,
    kill_every_s: Annotated[float, typer.Option(min=0.5, help="Seconds between two kills.")] = 6,
    seed: Annotated[int, typer.Option(help="Of who is killed, and what is asked.")] = 0,
    model_repository: Annotated[Path, typer.Option(file_okay=False)] = (
        ROOT / "build/model_repository"
    ),
) -> None:
    """Kill, stop and starve a server under load.

    Ends with 1 where an answer was wrong or lost, or memory or open files have grown.
    """
    from sam_refine_benchmarks.soak.soak import soak

    outcome = soak(model_repository, minutes * 60, kill_every_s, seed, typer.echo)
    raise typer.Exit(0 if outcome.is_right and not outcome.grown else 1)


if __name__ == "__main__":
    app()
