"""The options of a request (`contract.RefineOptions`), each one of the command line."""

from __future__ import annotations

from inspect import Parameter
from typing import Annotated, Any, Final

import typer

from sam_refine.contract import OptionRow, RefineOptions
from sam_refine_cli.options.groups import OptionGroup, option

_PANEL: Final = "Refinement"
_LARGEST_SHOWN: Final = 1_000_000
"""Higher ends of a range teach nothing."""
_PNG_LABELS: Final = (0, 65535)
"""What can be written as a PNG."""


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


REFINE_OPTIONS: Final = OptionGroup(tuple(map(_option, RefineOptions.rows.values())), RefineOptions)
