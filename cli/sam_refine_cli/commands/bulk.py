"""`sam-refine bulk`: data sets of any size, shard by shard, each image exactly once."""

from __future__ import annotations

import json as json_format
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sam_refine.contract import NETWORKS_SHA256, InvalidRequestError, RefineOptions
from sam_refine_cli.bulk_report import BulkReport
from sam_refine_cli.console import errors_in_one_line, need_extra, print_error, print_facts, stdout
from sam_refine_cli.options.connection import CONNECTION, Connection
from sam_refine_cli.options.folders import Images, warn_of_left_out
from sam_refine_cli.options.groups import OptionGroup, option, usage_errors, with_options
from sam_refine_cli.options.inputs import ActivationOption, PaletteOption
from sam_refine_cli.options.refinement import REFINE_OPTIONS

if TYPE_CHECKING:
    from sam_refine_bulk.executors.rank import Rank
    from sam_refine_bulk.job import Started


class Executor(str, Enum):
    """What shares the shards out on this machine, or on Ray's cluster."""

    LOCAL = "local"
    RAY = "ray"


_WORK: Final = "Work"
_OUT: Final = typer.Argument(metavar="OUT", help="The folder of a job.", file_okay=False)


class Effort:
    """How a run goes about it; none of it changes a result."""

    def __init__(
        self,
        workers: int,
        concurrency: int | None,
        part: int,
        wait_s: float,
        executor: Executor,
        rank: int | None,
        world_size: int | None,
        metrics_file: Path | None,
    ) -> None:
        if (rank is None) and world_size is not None and world_size < 1:
            raise InvalidRequestError("--world-size must be >= 1")
        self.workers = workers
        self.concurrency = concurrency
        self.part = part
        self.wait_s = wait_s
        self.executor = executor
        self.rank = rank
        self.world_size = world_size
        self.metrics_file = metrics_file

    def rank_of_environment(self) -> Rank:
        from sam_refine_bulk.executors.rank import rank_of

        return rank_of(os.environ, self.rank, self.world_size)


def _effort(name: str, kind: Any, default: Any, text: str, **more: Any) -> Any:
    return option(
        name, Annotated[kind, typer.Option(help=text, rich_help_panel=_WORK, **more)], default
    )


EFFORT: Final = OptionGroup(
    (
        _effort("workers", int, 1, "Processes, each with a client of its own.", metavar="N", min=1),
        _effort("concurrency", int | None, None, "Images under way at a time, of each worker.",
                metavar="N", min=1, show_default="4, with --local 1"),
        _effort("part", int, 256, "Images after which a shard's results are committed: no more are "
                "computed again for each worker that is killed.", metavar="N", min=1),
        _effort("wait_s", float, 600.0, "End where no server has answered for so long; until then "
                "images wait, and none of them fails.", metavar="SECONDS", min=0),
        _effort("executor", Executor, Executor.LOCAL, "Processes of this machine, or tasks on the "
                "cluster of Ray (extra bulk-ray)."),
        _effort("rank", int | None, None, "Do every --world-size-th shard, from this one; by "
                "default what JOB_COMPLETION_INDEX of a Kubernetes Indexed Job, a Slurm array or "
                "RANK says.", metavar="N", min=0),
        _effort("world_size", int | None, None, "How many ranks there are.", metavar="N", min=1),
        _effort("metrics_file", Path | None, None, "Write progress there as a textfile for "
                "Prometheus' node exporter.", metavar="FILE", dir_okay=False),
    ),
    Effort,
)  # fmt: skip


@with_options(effort=EFFORT, options=REFINE_OPTIONS, connection=CONNECTION)
def run(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A folder of tars (WebDataset, img2dataset) or Parquet files, at any depth; one "
            "such file; or a folder of images.",
            exists=True,
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="Where NAME.tar and NAME.json go for each shard NAME: a folder of its own.",
            file_okay=False,
        ),
    ],
    logits: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Of a folder of images: the folder of their scores, as with `refine`. By "
            "default KEY.logits.npy, KEY.labels.png or both beside each.",
            exists=True,
            file_okay=False,
            rich_help_panel="Input",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Of a folder of images: the folder of their coarse maps, where these are not the "
            "argmax of the scores, or where there are none.",
            exists=True,
            file_okay=False,
            rich_help_panel="Input",
        ),
    ] = None,
    activation: ActivationOption = None,
    palette: PaletteOption = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of Parquet: the column of the images' bytes.",
            show_default="image, jpg, jpeg, png or webp",
            rich_help_panel="Input",
        ),
    ] = None,
    scores_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of Parquet: the column of scores, .npy bytes or lists (C, h, w).",
            show_default="logits, scores or logits.npy",
            rich_help_panel="Input",
        ),
    ] = None,
    labels_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of Parquet: the column of label maps: pictures, .npy bytes or lists (H, W).",
            show_default="without scores labels, label, annotation, mask or segmentation_mask",
            rich_help_panel="Input",
        ),
    ] = None,
    key_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of Parquet: the column that names each image.",
            show_default="key, __key__, id, file_name, or the row's number",
            rich_help_panel="Input",
        ),
    ] = None,
    model_card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The server's model_card.json: its digest tells this job from one with other "
            "weights. Not needed with --local, nor where `info` says the server's networks.",
            exists=True,
            dir_okay=False,
            rich_help_panel="Input",
        ),
    ] = None,
    *,
    effort: Effort,
    options: RefineOptions,
    connection: Connection,
) -> None:
    """Refine a data set, shard by shard: each image exactly once in OUT.

    A tar has KEY.jpg (or png, webp) and KEY.logits.npy or KEY.labels.png for
    each image; a Parquet file an image and scores or labels in each row. OUT has for each shard a
    tar of KEY.labels.png and KEY.json, and a sidecar of counts and failures:

        sam-refine bulk data/ refined/ --url 10.0.0.1:8001,10.0.0.2:8001

    Kill it at any time: the same command goes on. Where the server is away
    the images wait. An image that cannot be refined is in the sidecar with
    its reason; once the input is mended:

        sam-refine bulk retry-failed refined/

    Many machines on one folder take every n-th shard each:

        sam-refine bulk data/ refined/ --rank 3 --world-size 100

    `bulk` means `bulk run`, unless a subcommand follows; spell it out for a
    folder that is called as one of these:

        sam-refine bulk run status/ refined/

    Ends with 0 where all went well, 1 where an image failed or a shard is
    damaged, 2 for wrong usage.
    """
    _need_extra(effort)
    from sam_refine_bulk import BulkError, Source
    from sam_refine_bulk.job import begin

    with usage_errors():
        rank = effort.rank_of_environment()
    source = Source(
        str(data.absolute()),
        None if logits is None else str(logits.absolute()),
        None if labels is None else str(labels.absolute()),
        image_column,
        scores_column,
        key_column,
        labels_column,
    )
    chosen = None if activation is None else activation.value
    with errors_in_one_line(BulkError, InvalidRequestError, OSError):
        model = _model(connection, model_card, effort.wait_s)
        started = begin(source, out, options, chosen, palette, model)
        warn_of_left_out(Images(data, True, ""))
        if (said := source.said_of_left_out()) is not None:
            print_error(f"{data}: warning: {said}")
        _refine(started, out, effort, rank, connection, retry=False)


@with_options(effort=EFFORT, connection=CONNECTION)
def retry_failed(
    out: Annotated[Path, _OUT],
    *,
    effort: Effort,
    connection: Connection,
) -> None:
    """Refine the images again that failed, and nothing else.

    With the options of the job, and its input as it is now: what was mended
    there, or added to a shard, is refined. A shard's tar is replaced by one
    with more images, at once.

        sam-refine bulk retry-failed refined/

    Ends with 0 where none failed again, else 1.
    """
    _need_extra(effort)
    from sam_refine_bulk import BulkError
    from sam_refine_bulk.job import resume
    from sam_refine_bulk.outputs.layout import Layout
    from sam_refine_client.files.run_manifest import MODEL_CARD

    with usage_errors():
        rank = effort.rank_of_environment()
    with errors_in_one_line(BulkError, InvalidRequestError, OSError):
        started = resume(out)
        weights = MODEL_CARD if connection.local else NETWORKS_SHA256
        if weights in started.manifest.model:
            model = _model(connection, None, effort.wait_s)
            started.manifest.check_model(Layout(out), weights, model)
        _refine(started, out, effort, rank, connection, retry=True)


def status(
    out: Annotated[Path, _OUT],
    failed: Annotated[
        bool, typer.Option("--failed", help="List each failed image, with its reason.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Say how far a job is, whoever works on it: from the folder alone.

        sam-refine bulk status refined/

        sam-refine bulk status refined/ --failed

    Ends with 0 where each shard is done and no image failed, else 1.
    """
    need_extra("bulk", "tritonclient", "grpc", "PIL")
    from sam_refine_bulk import BulkError, state_of
    from sam_refine_bulk.state import failed_images

    with errors_in_one_line(BulkError, OSError):
        state = state_of(out)
        listed = list(failed_images(out)) if failed else []
    if json:
        facts: dict[str, Any] = dict(vars(state))
        if failed:
            facts["images"] = [{"shard": shard, **fact} for shard, fact in listed]
        print(json_format.dumps(facts))
    else:
        print_facts(
            {
                "shards": f"{state.shards:,}",
                "done": f"{state.committed:,}",
                "at work": f"{state.at_work:,}",
                "damaged": f"{len(state.damaged):,}",
                "images done": f"{state.done:,}",
                "images failed": f"{state.failed:,}",
                **{f"  {reason}": f"{count:,}" for reason, count in state.reasons.items()},
                "regions": f"{state.regions:,}",
                "kept": f"{state.kept:,}",
                "images with warnings": f"{state.warned:,}",
            },
            are_numbers=True,
        )
        for name, message in state.damaged.items():
            stdout.print(f"{name}: {message}")
        for shard, fact in listed:
            stdout.print(f"{shard}/{fact['key']}: {fact['reason']}: {fact['message']}")
    if state.failed or not state.is_whole:
        raise typer.Exit(1)


def verify(
    out: Annotated[Path, _OUT],
    with_input: Annotated[
        bool,
        typer.Option(
            "--input/--no-input",
            help="Hold the keys against those of the input, too.",
        ),
    ] = True,
) -> None:
    """Read all that was written: is each image of the input there once, or failed?

        sam-refine bulk verify refined/

    Ends with 0 where it is, 1 where not, with a line for each thing wrong.
    """
    need_extra("bulk", "tritonclient", "grpc", "PIL")
    from sam_refine_bulk import BulkError
    from sam_refine_bulk.job import resume
    from sam_refine_bulk.state import verify as wrong_in

    with errors_in_one_line(BulkError, InvalidRequestError, OSError):
        found = list(wrong_in(out, resume(out).shards if with_input else None))
    for each in found:
        print_error(each)
    if found:
        raise typer.Exit(1)
    stdout.print(f"{out} is whole")


def _need_extra(effort: Effort) -> None:
    need_extra("bulk", "tritonclient", "grpc", "PIL")
    if effort.metrics_file is not None:
        need_extra("bulk", "prometheus_client")
    if effort.executor is Executor.RAY:
        need_extra("bulk-ray", "ray")


def _model(connection: Connection, card: Path | None, wait_s: float) -> dict[str, Any]:
    """What tells this job from one of another model."""
    from sam_refine_bulk.job import card_facts, server_facts
    from sam_refine_client.files.run_manifest import CARD_NAME

    if card is None and connection.local is not None:
        card = connection.local / CARD_NAME
    if card is not None:
        return card_facts(card)
    return server_facts(connection.infos, wait_s, lambda text: print_error(f"waiting: {text}"))


def _refine(
    started: Started,
    out: Path,
    effort: Effort,
    rank: Rank,
    connection: Connection,
    *,
    retry: bool,
) -> None:
    from sam_refine_bulk import Work, state_of
    from sam_refine_bulk.executors.local import refine_in_processes
    from sam_refine_bulk.metrics import MetricsFile, Progress

    work = Work(
        started.options,
        started.manifest.activation,
        started.manifest.palette,
        effort.concurrency or (1 if connection.local else 4),
        effort.part,
        connection.timeout_s,
        effort.wait_s,
        retry,
    )
    shards = rank.share(started.shards)
    names = [shard.name for shard in shards]
    progress = Progress(len(shards), None if retry else state_of(out, names, with_parts=False))
    metrics = None
    if effort.metrics_file is not None:
        metrics = MetricsFile(effort.metrics_file, {"rank": str(rank.rank)})
    refine = refine_in_processes
    if effort.executor is Executor.RAY:
        from sam_refine_bulk.executors.ray import refine_on_ray

        refine = refine_on_ray
    with BulkReport(progress, metrics, rank) as report:
        refine(shards, out, connection.open, work, effort.workers, report.observe)
    after = state_of(out, names)
    if metrics is not None and retry:
        metrics.write(Progress(len(shards), after), now=True)
    report.finish(after)
    if after.failed or not after.is_whole:
        raise typer.Exit(1)
