"""`sam-refine export`: SAM's networks to a model repository that is ready to serve."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP, SIGTERM
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from sam_refine_cli.console import errors_in_one_line, need_extra, printable, stderr, stdout
from sam_refine_export.options import LARGEST_MAX_BATCH_SIZE, Device, ExportOptions, Precision
from sam_refine_export.variants import Model, PublishedCheckpoint

if TYPE_CHECKING:
    from sam_refine_export import Inspection, ModelCard
    from sam_refine_export.validation.validation_report import ValueCheck

DEFAULT_REPOSITORY = Path("build/model_repository")
_MODELS = "; ".join(f"{model.value}: {model.variant.title}" for model in Model)
_WITHOUT_CHECKPOINT = ", ".join(model.value for model in Model if model.variant.graphs)


def export(
    context: typer.Context,
    model: Annotated[
        Model | None,
        typer.Option(
            help=f"Which SAM. {_MODELS}. By default the one that --checkpoint is of, or else "
            f"{Model.MOBILE.value}."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint of PyTorch or transformers (safetensors), or the folder with it. "
            f"{_WITHOUT_CHECKPOINT} needs none: its weights are fetched.",
            exists=True,
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            help="Fetch the model's published checkpoint, or go on where an earlier try stopped.",
        ),
    ] = False,
    precision: Annotated[
        Precision,
        typer.Option(help="fp16: matrix products and convolutions in float16, for GPUs."),
    ] = Precision.FP32,
    device: Annotated[
        Device, typer.Option(help="Where Triton runs the networks; auto: on a GPU if there is one.")
    ] = Device.AUTO,
    max_batch_size: Annotated[
        int | None,
        typer.Option(
            help="Images that the encoder takes at a time. By default what suits the model.",
            min=1,
            max=LARGEST_MAX_BATCH_SIZE,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Model repository to write.", file_okay=False)
    ] = DEFAULT_REPOSITORY,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Replace an earlier export at --output even if it was changed since.",
        ),
    ] = False,
    judge: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Put the judge that `sam-refine tune` wrote there into the repository. Where "
            "the repository is current, nothing else is done.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    inspect: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Export nothing: say what a repository holds and whether it matches its card.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Export SAM to ONNX, check it against PyTorch, write a model repository.

    MobileSAM, Meta's largest model for a GPU, weights of your own:

        sam-refine export

        sam-refine export --model vit_h --download --precision fp16

        sam-refine export --checkpoint mine.pth

    A judge of masks, which `sam-refine tune` has learned:

        sam-refine export --judge tuned/

    What a repository holds, and whether it is as it was exported:

        sam-refine export --inspect build/model_repository
    """
    if inspect is not None:
        require_alone(context, "inspect")
        raise typer.Exit(inspect_export(inspect))
    if checkpoint is not None and download:
        raise typer.BadParameter("give --checkpoint or --download, not both")
    need_extra(
        "export",
        "torch",
        "segment_anything",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "platformdirs",
        "pydantic",
        "requests",
        "safetensors",
        "tenacity",
    )
    from sam_refine_export import ExportError, add_judge, is_current

    with errors_in_one_line(ExportError, OSError):
        if download and model is not None and model.variant.checkpoint is not None:
            checkpoint = download_checkpoint(model.variant.checkpoint)
        options = ExportOptions(model, checkpoint, precision, device, max_batch_size)
        if judge is None or not is_current(output, options):
            print_card(run_export(output, options, replace=replace))
        if judge is not None:
            add_judge(output, judge)
            stdout.print(f"with the judge of {judge}")
    stdout.print(f"{output}")


def require_alone(context: typer.Context, parameter: str) -> None:
    """Refuse every other option beside one that makes them meaningless."""
    given = [
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    ]
    others = [f"--{name.replace('_', '-')}" for name in given if name != parameter]
    if others:
        raise typer.BadParameter(f"--{parameter} goes without {', '.join(others)}")


def inspect_export(repository: Path) -> int:
    """Print what a repository holds; 0 where it matches its card, else 1."""
    need_extra("export", "pydantic")
    from sam_refine_export import ExportError, inspect_repository

    with errors_in_one_line(ExportError, OSError):
        inspection = inspect_repository(repository)
    print_inspection(repository, inspection)
    return 0 if inspection.matches_card else 1


def run_export(output: Path, options: ExportOptions, *, replace: bool = False) -> ModelCard:
    """Export, showing each step as it starts."""
    from sam_refine_export import export_repository

    with stderr.status("exporting") as status, interrupted_by_signals():

        def show(step: str) -> None:
            stderr.print(f"  {step}")
            status.update(step)

        return export_repository(output, options, show, replace=replace)


def download_checkpoint(published: PublishedCheckpoint) -> Path:
    """A published checkpoint, from the cache if it is there; shows how far the download is."""
    from sam_refine_export.downloads.cache import cache_directory
    from sam_refine_export.downloads.https import fetch_checkpoint

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=stderr) as progress:
        task = progress.add_task(published.file_name, total=published.size_bytes)
        return fetch_checkpoint(
            published,
            cache_directory() / "checkpoints",
            on_progress=lambda done_bytes, total_bytes: progress.update(
                task, completed=done_bytes, total=total_bytes
            ),
        )


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the block like Ctrl-C, so that it cleans up."""

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (SIGTERM, SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_card(card: ModelCard) -> None:
    """What was exported, and how far it is from its references, in a few lines."""
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_row("model", card.model.value)
    facts.add_row("weights", printable(card.source.name))
    facts.add_row("licence", card.source.licence or "not known")
    facts.add_row("precision", card.precision.value)
    facts.add_row("encoder", f"up to {card.max_batch_size} images at a time")
    facts.add_row("graphs", f"ONNX opset {card.opset}")
    stdout.print_table(facts)
    # 80 columns hold it
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("output", "compared with"):
        table.add_column(heading)
    for heading in ("runs", "largest", "allowed", "rms", "allowed"):
        table.add_column(heading, justify="right")
    for (output, reference), checks in _checks_by_output_and_reference(card).items():
        # where nothing is allowed, as between zeros, there is no difference either
        largest = max(checks, key=lambda check: check.max_difference / (check.tolerance or 1))
        rms = max(checks, key=lambda check: check.rms_difference / (check.rms_tolerance or 1))
        figures = (
            largest.max_difference,
            largest.tolerance,
            rms.rms_difference,
            rms.rms_tolerance,
        )
        table.add_row(
            output.replace("_", " "), reference, str(len(checks)), *(f"{f:.1e}" for f in figures)
        )
    stdout.print_table(table)


def print_inspection(repository: Path, inspection: Inspection) -> None:
    """The card, and every file that does not match it."""
    print_card(inspection.card)
    for state, names in (
        ("changed", inspection.files.changed),
        ("missing", inspection.files.missing),
        ("not of the export", inspection.files.added),
    ):
        for name in names:
            stdout.print(f"{state}: {printable(name)}")
    count = len(inspection.files.intact)
    if inspection.matches_card:
        stdout.print(f"{repository} matches its card: {count} files")
    else:
        stdout.print(f"{repository} does not match its card")
    if not inspection.recipe_is_current:
        stdout.print("exported by another version of sam-refine; a new export may differ")


def _checks_by_output_and_reference(card: ModelCard) -> dict[tuple[str, str], list[ValueCheck]]:
    checks: dict[tuple[str, str], list[ValueCheck]] = {}
    for check in card.validation.values:
        checks.setdefault((check.output, check.reference), []).append(check)
    return checks
