"""`sam-refine tune`: a judge of masks for one network, learned from labelled images."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.commands.evaluate import print_figures
from sam_refine_cli.commands.refine import check_has_map, read_palette_option
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
from sam_refine_cli.options.folders import (
    CutSuffixOption,
    DatasetOption,
    LimitOption,
    RecursiveOption,
    TruthOption,
    check_folders,
    images_of,
    truth_of,
    warn_of_left_out,
)
from sam_refine_cli.options.groups import usage_errors, with_options
from sam_refine_cli.options.inputs import (
    ActivationOption,
    PaletteOption,
    check_classes_are_known,
    read_class_names,
)

if TYPE_CHECKING:
    from sam_refine_quality.tuning.tune import Tuned


@with_options(connection=CONNECTION)
def tune(
    images: Annotated[
        Path,
        typer.Argument(metavar="IMAGES", help="A folder of JPEG or PNG.", exists=True),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where judge.onnx, preset.json and card.json go.",
            file_okay=False,
            rich_help_panel="Output",
        ),
    ],
    logits: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Class scores (C, h, w), as .npy, .npz, .pt or .safetensors: for street.jpg the "
            "folder has street.npy. Or a pattern such as 'scores/{stem}_scores.npy' "
            "({folder}/{stem} is {name}).",
            rich_help_panel="Input",
        ),
    ] = None,
    truth: TruthOption = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Coarse maps (H, W) where they are not the argmax of the scores, or where there "
            "are none: then --class-names says how many classes there are. Forms as of --truth.",
            rich_help_panel="Input",
        ),
    ] = None,
    palette: PaletteOption = None,
    recursive: RecursiveOption = False,
    cut_suffix: CutSuffixOption = "",
    dataset: DatasetOption = None,
    activation: ActivationOption = None,
    ignore_label: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Pixels with this label in the truth are void: nothing is learned of them.",
            rich_help_panel="Input",
        ),
    ] = None,
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
    limit: LimitOption = None,
    class_names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of classes 0, 1, ..., a line each, or a JSON list, or by id.",
            exists=True,
            dir_okay=False,
            rich_help_panel="Output",
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
    *,
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
    with usage_errors():
        source = images_of(images, recursive, cut_suffix, dataset)
        truth = truth_of(source, truth)
        check_folders(images, logits=logits, truth=truth, labels=labels)
        check_has_map(logits, labels, None)
        check_classes_are_known(logits, class_names)
    need_extra("client", "tritonclient", "grpc", "PIL")
    need_extra("quality", "scipy", "jinja2")
    need_extra("tune", "sklearn", "skl2onnx", "onnx")
    from sam_refine_client import RefineError
    from sam_refine_client.files.whole_files import write_whole
    from sam_refine_quality import find_samples
    from sam_refine_quality.data.groups import load_groups
    from sam_refine_quality.evaluation import check_class_names
    from sam_refine_quality.tuning.files import write_tuned
    from sam_refine_quality.tuning.tune import to_json, tune

    with errors_in_one_line(InvalidRequestError, RefineError, OSError):
        names = read_class_names(class_names)
        check_class_names(names)
        samples = find_samples(
            source.path,
            logits,
            truth,
            labels=labels,
            activation=None if activation is None else activation.value,
            palette=None if palette is None else read_palette_option(palette),
            limit=limit,
            recursive=source.recursive,
            cut_suffix=source.cut_suffix,
            listed=source.listed,
        )
        warn_of_left_out(source)
        names_of_images = [sample.image.name for sample in samples]
        of_group = None if groups is None else load_groups(groups, names_of_images)
        out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
        with connection.open() as client, stderr.status("SAM draws masks") as status:
            tuned = tune(
                client,
                samples,
                groups=of_group,
                ignore_label=ignore_label,
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
