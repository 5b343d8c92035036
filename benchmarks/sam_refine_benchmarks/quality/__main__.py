"""`python -m sam_refine_benchmarks.quality DATA_SETS.json`: measure, write, show the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sam_refine.contract import RefineOptions
from sam_refine_benchmarks.measuring.machine import ROOT
from sam_refine_benchmarks.quality.data_sets import DataSet, read_data_sets
from sam_refine_benchmarks.quality.table import Document, table, update
from sam_refine_benchmarks.sides.networks import ensure_exported
from sam_refine_client import RefineClient
from sam_refine_quality import Sample, evaluate
from sam_refine_quality.result import PairFigures, ends_of, number_of
from sam_refine_quality.tuning.tune import tune

OPTION_SETS: Final = {
    "published": RefineOptions.of_preset("published"),
    "default": RefineOptions(),
    "safe": RefineOptions.of_preset("safe"),
}
JUDGED: Final = "judged"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data_sets: Annotated[
        Path, typer.Argument(metavar="DATA_SETS.json", exists=True, dir_okay=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="Directory for quality.json and quality.md. By default benchmarks/results, and "
            "the figures go to the README too.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Coarse maps against refined ones, by preset; `judged` is cross-validated by image."""
    repository = ROOT / "build/model_repository"
    ensure_exported(repository, lambda step: typer.echo(step, err=True))
    document: Document = []
    with RefineClient.local(repository) as client:
        for data_set in read_data_sets(data_sets):
            typer.echo(data_set.name, err=True)
            document.append(measured(client, data_set, data_set.samples()))
    directory = output or ROOT / "benchmarks/results"
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, allow_nan=False)
    (directory / "quality.json").write_text(text + "\n", encoding="utf-8")
    (directory / "quality.md").write_text(table(document), encoding="utf-8")
    if output is None:
        update(ROOT / "README.md", document)
    typer.echo(table(document))


def measured(client: RefineClient, data_set: DataSet, samples: Sequence[Sample]) -> dict[str, Any]:
    """The figures of a data set, by set of options."""
    void = data_set.ignore_label
    evaluation = evaluate(client, samples, OPTION_SETS, ignore_label=void)
    if evaluation.failed:
        raise RuntimeError(f"{data_set.name}: {next(iter(evaluation.failed.values()))}")
    found = {
        name: _figures(each.figures, each.intervals, evaluation.class_names)
        for name, each in evaluation.option_sets.items()
    }
    tuned = tune(
        client,
        samples,
        ignore_label=void,
        on_step=lambda step: typer.echo(f"  {step}", err=True),
    )
    found[JUDGED] = _figures(tuned.figures, tuned.intervals, tuned.class_names)
    first = evaluation.option_sets["default"].figures.coarse
    return {
        "name": data_set.name,
        "images": len(samples),
        "coarse": {
            name: number_of(getattr(first, name))
            for name in ("miou", "accuracy", "border_accuracy")
        },
        "options": found,
    }


def _figures(
    figures: PairFigures, intervals: PairFigures | None, class_names: tuple[str, ...]
) -> dict[str, Any]:
    assert intervals is not None  # there are several images
    everything = figures.to_json(class_names, number_of)
    ends = intervals.to_json(class_names, ends_of)
    by_class = everything["difference"].pop("iou_by_class")
    return {
        "refined": everything["refined"],
        "difference": everything["difference"],
        "by_class": {name: value for name, value in by_class.items() if value is not None},
        "changed": everything["changed"],
        "intervals": {"miou": ends["difference"]["miou"]},
    }


if __name__ == "__main__":
    app()
