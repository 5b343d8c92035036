"""Folders of images, and what goes with them: a folder, too, or a pattern of names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.console import print_error


class DatasetName(str, Enum):
    """The client's `Dataset`."""

    CITYSCAPES = "cityscapes"
    HUGGINGFACE = "huggingface"
    MMSEGMENTATION = "mmsegmentation"


RecursiveOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--recursive",
        help="Images of folders within the folder, too; results lie as they do.",
        rich_help_panel="Input",
    ),
]
CutSuffixOption: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="The end of the images' names that what goes with them, and their results, do not "
        "have, such as _leftImg8bit; other images are left out.",
        show_default=False,
        rich_help_panel="Input",
    ),
]
DatasetOption: TypeAlias = Annotated[
    DatasetName | None,
    typer.Option(
        "--dataset",
        help="The folder is the root of a data set that lies as this one: images in leftImg8bit, "
        "labels in gtFine; img_dir and ann_dir; or as metadata.csv or metadata.jsonl list them. "
        "Results lie so, too, below --out.",
        show_default=False,
        rich_help_panel="Input",
    ),
]
ConcurrencyOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Images of a folder that are under way at a time.",
        min=1,
        show_default="4, with --local 1",
    ),
]


def check_folders(image: Path, **places: Path | None) -> None:
    """Raise `InvalidRequestError` where one of `places` is not there, or a file for a folder.

    A place goes by the name of its option. A file of COCO has what goes with all images, and so has
    a pattern such as "scores/{stem}.npy".
    """
    for name, place in places.items():
        if place is None or ("{" in str(place) and not place.exists()):
            continue
        if not place.exists():
            raise InvalidRequestError(f"--{name}: there is no {place}")
        if image.is_dir() and not place.is_dir() and place.suffix.lower() != ".json":
            raise InvalidRequestError(
                f"{image} is a folder, so --{name} must be one, too, got the file {place}"
            )


@dataclass(frozen=True)
class Images:
    """Where images are looked for, and where a data set has the label maps that go with them."""

    path: Path
    recursive: bool
    cut_suffix: str
    label_maps: Path | None = None
    """A pattern; None where no data set is named."""
    result_name: str = "{name}"
    """Of a flat result without its ending."""
    listed: bool = False
    """Whether a metadata file lists them."""


def images_of(path: Path, recursive: bool, cut_suffix: str, dataset: DatasetName | None) -> Images:
    """As the options say. Raises `InvalidRequestError` where they say it twice, or it is not so."""
    if dataset is None:
        return Images(path, recursive, cut_suffix)
    from sam_refine_client.inputs.datasets import DATASETS, Dataset

    if recursive or cut_suffix:
        raise InvalidRequestError("--dataset says what --recursive and --cut-suffix would say")
    folders = DATASETS[Dataset(dataset.value)]
    if not (path / folders.images).is_dir():
        raise InvalidRequestError(
            f"--dataset {dataset.value}: {path} must have the folder {folders.images}"
        )
    return Images(
        path / folders.images,
        True,
        folders.cut_suffix,
        folders.label_maps(path),
        folders.labels,
        folders.are_listed,
    )


def warn_of_left_out(images: Images) -> None:
    """Say where a folder has pictures of kinds that are not read. Raises `OSError`."""
    from sam_refine_client.inputs.images import said_of_left_out

    path, suffix = images.path, images.cut_suffix
    said = said_of_left_out(path, recursive=images.recursive, cut_suffix=suffix)
    if said is not None:
        print_error(f"{path}: warning: {said}")
