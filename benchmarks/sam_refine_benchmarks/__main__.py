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
            "whose figures go to the README too, and build/benchmarks/results for anything less.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Measure sam-refine against what its users would run otherwise."""
    from sam_refine_benchmarks import readme, report, suite
    from sam_refine_benchmarks.setting import Setting

    names = only or list(suite.BENCHMARKS)
    unknown = sorted(set(names) - set(suite.BENCHMARKS))
    if unknown:
        raise typer.BadParameter(
            f"there is no benchmark {unknown[0]}; there are {', '.join(suite.BENCHMARKS)}"
        )
    is_the_result = not (quick or only or output)
    if output is None:
        output = ROOT / ("benchmarks/results" if is_the_result else "build/benchmarks/results")
    setting = Setting(ROOT / "build/model_repository", ROOT / "build/benchmarks", quick)
    suite.run(names, setting, output, lambda step: typer.echo(step, err=True))
    if is_the_result:
        readme.update(ROOT / "README.md", report.read(output))
    typer.echo((output / report.TABLE).read_text(encoding="utf-8"))


if __name__ == "__main__":
    app()
