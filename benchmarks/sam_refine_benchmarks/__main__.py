"""`python -m sam_refine_benchmarks`: measure, write the results, show the table."""

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
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller inputs and few repeats: minutes, not a result.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This benchmark; may be repeated.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Directory for the results. By default benchmarks/results for the full suite, "
            "build/benchmarks/results for anything less.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Measure sam-refine against what its users would run otherwise."""
    from sam_refine_benchmarks import report, suite
    from sam_refine_benchmarks.setting import Setting

    names = only or list(suite.BENCHMARKS)
    unknown = sorted(set(names) - set(suite.BENCHMARKS))
    if unknown:
        raise typer.BadParameter(
            f"there is no benchmark {unknown[0]}; there are {', '.join(suite.BENCHMARKS)}"
        )
    if output is None:
        partial = quick or only
        output = ROOT / ("build/benchmarks/results" if partial else "benchmarks/results")
    setting = Setting(ROOT / "build/model_repository", ROOT / "build/benchmarks", quick)
    suite.run(names, setting, output, lambda step: typer.echo(step, err=True))
    typer.echo((output / report.TABLE).read_text(encoding="utf-8"))


if __name__ == "__main__":
    app()
