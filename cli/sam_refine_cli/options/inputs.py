"""Options of what goes in, which commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, TypeAlias

import typer


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
