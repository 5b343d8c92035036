"""`sam-refine evaluate`: is the refined map better than the coarse one, on labelled data?"""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.console import (
    errors_in_one_line,
    need_extra,
    print_error,
    print_facts,
    printable,
    stdout,
)
from sam_refine_cli.options.connection import CONNECTION, Connection
from sam_refine_cli.options.groups import usage_errors, with_options
from sam_refine_cli.options.labelled import LABELLED_IMAGES, LabelledImages
from sam_refine_cli.report import Report

if TYPE_CHECKING:
    from sam_refine_quality import Evaluation, ImageOutcome
    from sam_refine_quality.report.rows import Compared, Row


@with_options(labelled=LABELLED_IMAGES, connection=CONNECTION)
def evaluate(
    *,
    labelled: LabelledImages,
    option_set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY=VALUE,...",
            help="Options of a request to try, under a name; those that are not there have their "
            "defaults. Or NAME=FILE.json, a JSON object of options. May be given again.",
            show_default="default:",
            rich_help_panel="Refinement",
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write all figures as JSON, too.",
            dir_okay=False,
            rich_help_panel="Output",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write index.html, too: the figures, and the images that gained and lost most.",
            file_okay=False,
            rich_help_panel="Output",
        ),
    ] = None,
    connection: Connection,
) -> None:
    """Refine labelled images, and hold coarse and refined maps against the truth.

    scores/street.npy and truth/street.png go with images/street.jpg; 255
    is void in the truth:

        sam-refine evaluate images/ --logits scores/ --truth truth/ \\
            --ignore-label 255

    Several sets of options, each against the coarse map, with a page of
    pictures:

        sam-refine evaluate images/ --logits scores/ --truth truth/ \\
            --option-set plain: --option-set lenient:iou_threshold=0.7 \\
            --option-set tuned=options.json --report report/

    An image that fails is named on stderr and does not count.

    Ends with 0 where all went well, 1 where something failed, 2 for wrong
    usage.
    """
    need_extra("client", "tritonclient", "grpc", "PIL")
    need_extra("quality", "scipy", "jinja2")
    from sam_refine_client.files.whole_files import write_whole
    from sam_refine_quality import evaluate, read_option_sets
    from sam_refine_quality.evaluation import FATAL
    from sam_refine_quality.report.gallery import Gallery
    from sam_refine_quality.report.page import write_report

    with usage_errors(), errors_in_one_line(OSError):
        sets = read_option_sets(option_set or ())
    with errors_in_one_line(InvalidRequestError, OSError):
        names, samples = labelled.class_names(), labelled.samples()
        for directory in (report, None if json is None else json.parent):
            if directory is not None:  # before the work, not after it
                directory.mkdir(parents=True, exist_ok=True)

    gallery = Gallery()
    with connection.open() as client, Report(len(samples)) as progress:

        def watch(outcome: ImageOutcome) -> None:
            path = Path(outcome.name)
            if isinstance(outcome.error, FATAL):
                progress.ended(path, outcome.error)
            elif outcome.error is not None:
                progress.failed(path, outcome.error)
            else:
                progress.warned(path, outcome.warnings)
                progress.done(path, (), {})
                if report is not None:
                    gallery.add(outcome)

        try:
            evaluation = evaluate(
                client,
                samples,
                sets,
                ignore_label=labelled.ignore_label,
                class_names=names,
                timeout_s=connection.timeout_s,
                watch=watch,
            )
        except InvalidRequestError as error:
            if progress.all_failed:
                progress.finish(None, {})  # each was named
            print_error(str(error))
            raise typer.Exit(1) from error
    print_evaluation(evaluation)
    with errors_in_one_line(InvalidRequestError, OSError):
        if json is not None:
            text = json_format.dumps(evaluation.to_json(), indent=1, allow_nan=False) + "\n"
            write_whole({json: text.encode("utf-8")})
            stdout.print(f"{json}")
        if report is not None:
            stdout.print(f"{write_report(report, evaluation, gallery)}")
    progress.finish(None, {})


def print_evaluation(evaluation: Evaluation) -> None:
    """For each set of options the figures, what was changed, and IoU by class; in percent."""
    from sam_refine_quality.report.rows import facts

    for name, each in evaluation.option_sets.items():
        stdout.print(printable(name), style="bold")
        stdout.print()
        print_facts(facts(each))
        stdout.print()
        print_figures(each, evaluation.class_names)


def print_figures(compared: Compared, class_names: tuple[str, ...]) -> None:
    """The figures of coarse and refined map, and IoU by class; in percent."""
    from sam_refine_quality.report.rows import class_rows, figure_rows

    _print_rows("", figure_rows(compared))
    stdout.print()
    _print_rows("IoU of class", class_rows(compared, class_names))
    stdout.print()


def _print_rows(heading: str, rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(heading)
    for column in ("coarse", "refined", "difference", "95% interval"):
        table.add_column(column, justify="right")
    for row in rows:
        cells = (row.coarse, row.refined, row.difference, row.interval)
        table.add_row(printable(row.name), *cells)
    stdout.print_table(table)
