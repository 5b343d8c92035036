"""`sam-refine tune`: a judge of masks for one network, learned from labelled images."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.commands.evaluate import print_figures
from sam_refine_cli.console import (
    errors_in_one_line,
    need_extra,
    print_error,
    print_facts,
    printable,
    stderr,
    stdout,
)
from sam_refine_cli.options.connection import CONNECTION, Connection
from sam_refine_cli.options.groups import with_options
from sam_refine_cli.options.labelled import LABELLED_IMAGES, LabelledImages

if TYPE_CHECKING:
    from sam_refine_quality.tuning.tune import Tuned


@with_options(labelled=LABELLED_IMAGES, connection=CONNECTION)
def tune(
    *,
    labelled: LabelledImages,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where judge.onnx, preset.json and card.json go.",
            file_okay=False,
            rich_help_panel="Output",
        ),
    ],
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A group for each image, such as the video that it is from: lines of an image's "
            "name without its ending, a space, and its group. A judge is never tried on a group "
            "that it has learned from.",
            exists=True,
            dir_okay=False,
            rich_help_panel="Input",
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
    connection: Connection,
) -> None:
    """Learn a judge of SAM's masks from labelled images of your own network.

    Two or three dozen images are enough to begin with. What it prints is
    what judges gained on images that they had not learned from:

        sam-refine tune images/ --logits scores/ --truth truth/ \\
            --ignore-label 255 --out tuned/ --local build/model_repository

    Put the judge into the repository, and use it:

        sam-refine export --judge tuned/

        sam-refine refine street.jpg --logits street.npy \\
            --preset tuned/preset.json

    An image that fails is named on stderr, and nothing is learned of it.

    Ends with 0 where the judge is recommended, 1 where it is not or
    something failed, 2 for wrong usage.
    """
    need_extra("client", "tritonclient", "grpc", "PIL")
    need_extra("quality", "scipy", "jinja2")
    need_extra("tune", "sklearn", "skl2onnx", "onnx")
    from sam_refine_client import RefineError
    from sam_refine_client.files.whole_files import write_whole
    from sam_refine_quality.data.groups import load_groups
    from sam_refine_quality.tuning.files import write_tuned
    from sam_refine_quality.tuning.tune import to_json, tune

    with errors_in_one_line(InvalidRequestError, RefineError, OSError):
        names, samples = labelled.class_names(), labelled.samples()
        names_of_images = [sample.image.name for sample in samples]
        of_group = None if groups is None else load_groups(groups, names_of_images)
        out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
        with connection.open() as client, stderr.status("SAM draws masks") as status:
            tuned = tune(
                client,
                samples,
                groups=of_group,
                ignore_label=labelled.ignore_label,
                class_names=names,
                timeout_s=connection.timeout_s,
                on_step=status.update,
                watch=lambda name: status.update(f"SAM has drawn masks for {printable(name)}"),
                warn=lambda name, warning: print_error(f"{name}: warning: {warning}"),
                fail=lambda name, error: print_error(f"{name}: {error}"),
            )
        print_tuned(tuned)
        for path in write_tuned(tuned, out):
            stdout.print(f"{path}")
        if json is not None:
            json.parent.mkdir(parents=True, exist_ok=True)
            text = json_format.dumps(to_json(tuned), indent=1, allow_nan=False) + "\n"
            write_whole({json: text.encode("utf-8")})
            stdout.print(f"{json}")
    if tuned.failed:
        print_error(f"{len(tuned.failed)} of {len(samples)} images failed")
    if tuned.failed or not tuned.is_recommended:
        raise typer.Exit(1)


def print_tuned(tuned: Tuned) -> None:
    """What the judge gained on images that it had not seen, by class, and the verdict."""
    print_figures(tuned, tuned.class_names)
    print_facts(
        {
            "images": f"{len(tuned.names)} in {tuned.groups} groups",
            "min_gain": f"{tuned.options.min_gain:g}",
        }
    )
    stdout.print()
    if tuned.is_recommended:
        stdout.print("recommended: use preset.json")
    for doubt in tuned.doubts:
        stdout.print(f"not recommended: {printable(doubt)}")
