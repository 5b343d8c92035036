"""What each of the numbers that a learned judge is shown is worth: `ablation DATA_SETS.json`.

A judge is cross-validated by image without some of them. What it loses is what they are worth
beside the others; numbers that say the same are worth little each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES, RefineOptions
from sam_refine_benchmarks.measuring.machine import ROOT
from sam_refine_benchmarks.quality.data_sets import DataSet, read_data_sets
from sam_refine_benchmarks.sides.networks import ensure_exported
from sam_refine_client import RefineClient
from sam_refine_client.reading.notes import Notes
from sam_refine_quality.reading import ReadSample
from sam_refine_quality.tuning.learn import cross_validate
from sam_refine_quality.tuning.recording import Recording
from sam_refine_quality.tuning.tune import LEAST_GAINS, figures_of, record

KINDS: Final = {
    "SAM's own IoU and rank": ("predicted_iou", "rank", "mask"),
    "overlap with the region": ("region_iou", "region_recall", "region_precision", "own_share"),
    "areas": ("log_region", "log_mask", "log_added", "log_removed", "added_share", "removed_share"),
    "the network's scores": (
        "score_mask", "score_region", "score_added", "score_removed", "margin_added",
        "best_removed", "second_removed", "score_old", "score_new", "score_best", "score_second",
    ),
    "certainty of the logits": ("stability", "certainty_added", "certainty_removed", "logit"),
    "agreement of the four masks": (
        "consensus_added", "consensus_removed", "agreement", "consensus",
    ),
    "depth in the maps": ("depth_added", "depth_removed", "depth_old", "depth_new"),
    "classes": ("class_id", "old_class", "new_class"),
    "gain foretold of the mask": ("gain",),
}  # fmt: skip
"""Every number once."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data_sets: Annotated[
        Path, typer.Argument(metavar="DATA_SETS.json", exists=True, dir_okay=False)
    ],
    each: Annotated[
        bool, typer.Option("--each", help="Hide each number by itself, too: an hour or more.")
    ] = False,
) -> None:
    """Print a table for each data set: hidden numbers, and the mIoU that the judge gains then."""
    repository = ROOT / "build/model_repository"
    ensure_exported(repository, lambda step: typer.echo(step, err=True))
    with RefineClient.local(repository) as client:
        for data_set in read_data_sets(data_sets):
            typer.echo(f"\n{data_set.name}\n\n| hidden | mIoU gained | lost by it |\n|---|---|---|")
            recordings = _recorded(client, data_set)
            whole = gained(recordings, ())
            typer.echo(f"| nothing | {whole:+.2f} |  |")
            for name, hidden in _hidden(each=each):
                without = gained(recordings, hidden)
                typer.echo(f"| {name} | {without:+.2f} | {whole - without:.2f} |")


def gained(recordings: Sequence[Recording], hidden: Sequence[str]) -> float:
    """Percentage points of mIoU, at the best `min_gain`, by judges that do without some numbers."""
    groups = range(len(recordings))
    maps = cross_validate(recordings, groups, LEAST_GAINS, hidden=hidden)
    differences = [
        figures_of(recordings, [each[index] for each in maps], groups)[0].difference.miou
        for index in range(len(LEAST_GAINS))
    ]
    return float(np.max(differences))


def _hidden(*, each: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from KINDS.items()
    if each:
        for name in dict.fromkeys((*MASK_FEATURES, *CHANGE_FEATURES)):
            yield f"`{name}`", (name,)


def _recorded(client: RefineClient, data_set: DataSet) -> list[Recording]:
    options = RefineOptions.of_preset("judged")
    return [
        record(
            client,
            ReadSample.of(sample, Notes(), classes=None, void=data_set.ignore_label),
            options,
        )
        for sample in data_set.samples()
    ]


if __name__ == "__main__":
    app()
