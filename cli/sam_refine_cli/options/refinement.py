"""The options of a request (`contract.RefineOptions`), each one of the command line."""

from __future__ import annotations

from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sam_refine.contract import PRESETS, InvalidRequestError, OptionRow, RefineOptions
from sam_refine_cli.console import need_extra
from sam_refine_cli.options.groups import OptionGroup, option

_PANEL: Final = "Refinement"
_LARGEST_SHOWN: Final = 1_000_000
"""Higher ends of a range teach nothing."""
_PNG_LABELS: Final = (-1, 65535)
"""What can be written as a PNG, and -1, which is written as 255."""


def _option(row: OptionRow) -> Parameter:
    arguments: dict[str, Any] = {"help": row.full_help, "rich_help_panel": _PANEL}
    flags = []
    if row.kind is bool:
        flags.append(f"--{row.name.replace('_', '-')}")  # and no second one to switch it off
    elif row.range is not None:
        low, high = _PNG_LABELS if row.name == "ignore_label" else row.range
        arguments |= {"min": low, "max": high if high <= _LARGEST_SHOWN else None, "metavar": "N"}
    kind: Any = row.kind | None if row.is_optional else row.kind
    return option(row.name, Annotated[kind, typer.Option(*flags, **arguments)], row.default)


def _refine_options(preset: str | None, written: set[str], **values: Any) -> RefineOptions:
    """Those of the preset, and over them what stands in the command line."""
    if preset is None:
        return RefineOptions(**values)
    given = {name: value for name, value in values.items() if name in written}
    if preset in PRESETS:
        return RefineOptions.of_preset(preset, **given)
    path = Path(preset)
    if path.suffix != ".json":
        raise InvalidRequestError(
            f"--preset must be one of {', '.join(PRESETS)}, or a .json file, got {preset!r:.80}"
        )
    need_extra("client", "tritonclient", "grpc", "PIL")
    from sam_refine_client.inputs.files import load_options

    try:
        return RefineOptions.from_parameters({**load_options(path), **given})
    except OSError as error:
        raise InvalidRequestError(f"--preset: {path} cannot be read: {error}") from error


_PRESET: Final = option(
    "preset",
    Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Begin with a set of the options below, and change those that are given: "
            f"{', '.join(PRESETS)}, or the .json file that `sam-refine tune` wrote.",
            rich_help_panel=_PANEL,
        ),
    ],
    None,
)
REFINE_OPTIONS: Final = OptionGroup(
    (_PRESET, *map(_option, RefineOptions.rows.values())), _refine_options, tells_written=True
)
