"""The options of a request (`contract.RefineOptions`), each one of the command line."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from inspect import Parameter
from typing import Annotated, Any, Final, get_type_hints

import typer

from sam_refine.contract import RefineOptions
from sam_refine_cli.options.groups import OptionGroup, option

_PANEL: Final = "Refinement"
_LARGEST_SHOWN: Final = 1_000_000
"""Higher ends of a range teach nothing."""
_PNG_LABELS: Final = (0, 65535)
"""What can be written as a PNG."""

HELP: Final = {
    "downsample_ratio": "Regions are found on a grid of one cell for N x N pixels. Larger is "
    "faster and coarser.",
    "confidence_threshold": "Places where every class scores less belong to no region; 0 switches "
    "this off.",
    "iou_threshold": "A region is kept where the IoU that SAM predicts for its mask is higher. "
    "Lower it where too few are kept.",
    "mask_prompt": "How SAM is shown the scores: not at all, as SAM has it, or as Trident has it.",
    "mask_prompt_scale": "Factor of the scores in the mask prompt.",
    "min_region_area": "Smaller specks, in grid cells, are not refined: faster. 225 suits the "
    "scores of a network.",
    "failed_regions": "Where a region was not kept: scores_only: other masks may win there; "
    "compete: unless the coarse scores are higher; keep_coarse: it stays as it was.",
    "multimask_output": "Of three masks of SAM take the one of the highest predicted IoU, instead "
    "of its single mask.",
    "max_regions": "Refuse maps of more regions; else the server's limit holds.",
    "ignore_label": 'Pixels of this label of the coarse map keep it, such as 255 for "void".',
}
"""What each does, in a sentence; names, types, defaults and ranges are the contract's."""


def _option(name: str, kind: Any, default: Any) -> Parameter:
    arguments: dict[str, Any] = {"help": HELP[name], "rich_help_panel": _PANEL}
    flags = []
    if isinstance(default, bool):
        flags.append(f"--{name.replace('_', '-')}")  # and no second one to switch it off
    elif not isinstance(default, Enum):
        low, high = _PNG_LABELS if name == "ignore_label" else RefineOptions.range_of(name)
        arguments |= {"min": low, "max": high if high <= _LARGEST_SHOWN else None, "metavar": "N"}
    return option(name, Annotated[kind, typer.Option(*flags, **arguments)], default)


_KINDS: Final = get_type_hints(RefineOptions)
REFINE_OPTIONS: Final = OptionGroup(
    tuple(_option(each.name, _KINDS[each.name], each.default) for each in fields(RefineOptions)),
    RefineOptions,
)
