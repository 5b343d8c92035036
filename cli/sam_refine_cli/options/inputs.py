"""Options of what goes in, which commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.console import errors_in_one_line, print_error


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


def check_has_map(logits: Path | None, labels: Path | None, palette: str | None = None) -> None:
    """Raise `InvalidRequestError` where there is neither, and for a palette of nothing."""
    if logits is None and labels is None:
        raise InvalidRequestError("give --logits (class scores) or --labels (label maps), or both")
    if palette is not None and labels is None:
        raise InvalidRequestError("--palette goes with --labels")


def read_palette_option(palette: str) -> Any:
    """The colours of `--palette`; ends with exit code 1 for what is none."""
    from sam_refine_client.reading.palettes import read_palette

    with errors_in_one_line(InvalidRequestError, OSError):
        return read_palette(palette)


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
