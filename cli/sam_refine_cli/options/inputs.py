"""Options of what goes in, which commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.console import print_error


class Activation(str, Enum):
    """What the client takes; known here without it."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


ActivationOption: TypeAlias = Annotated[
    Activation | None,
    typer.Option(
        help="Make scores of a network's raw output first; none says that they are scores already.",
        rich_help_panel="Input",
    ),
]
PaletteOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="The classes of colours in coloured label maps: ade20k, camvid, camvid11, cityscapes, "
        "voc, or a file of lines of red, green, blue and a name.",
        rich_help_panel="Input",
    ),
]


def check_classes_are_known(logits: Path | None, class_names: Path | None) -> None:
    """Raise `InvalidRequestError` where neither scores nor names say how many classes there are."""
    if logits is None and class_names is None:
        raise InvalidRequestError(
            "--labels without --logits do not say how many classes there are: give "
            "--class-names FILE, a name a line"
        )


def read_class_names(path: Path | None) -> list[str] | None:
    """The names of `--class-names`; raises as `class_names_of` does."""
    return None if path is None else class_names_of(path)


def class_names_of(path: Path) -> list[str]:
    """The names in a file; says on stderr what is doubtful.

    Raises `InvalidRequestError`, `OSError`.
    """
    from sam_refine_client.inputs.files import load_class_names
    from sam_refine_client.reading.notes import Notes

    notes = Notes()
    names = load_class_names(path, notes)
    for sentence in notes.sentences:
        print_error(f"warning: {sentence}")
    return names
