"""The options of a request as things to turn; ranges and defaults are the contract's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import gradio as gr

from sam_refine.contract import RefineOptions

_MOST_STEPS: Final = 100
"""A range of more is typed, not slid."""


@dataclass(frozen=True)
class Knob:
    """One option."""

    option: str
    """Field of `RefineOptions`."""
    label: str
    explanation: str


KNOBS: Final = (
    Knob(
        "iou_threshold",
        "IoU threshold",
        "A region is kept where SAM's own estimate of its mask, the predicted IoU, is higher.",
    ),
    Knob(
        "failed_regions",
        "Regions that failed",
        "scores_only: other masks may win there; compete: unless the coarse scores are higher; "
        "keep_coarse: they stay as they were.",
    ),
    Knob(
        "min_region_area",
        "Smallest region",
        "In grid cells; smaller specks are not refined. 225 suits the scores of a network.",
    ),
    Knob(
        "mask_prompt",
        "Mask prompt",
        "How SAM is shown the coarse scores: not at all, as SAM has it, or as Trident has it.",
    ),
    Knob(
        "mask_prompt_scale",
        "Mask prompt scale",
        "The factor of the scores in the mask prompt.",
    ),
    Knob(
        "multimask_output",
        "Best of three masks",
        "Of three masks of SAM the one of the highest predicted IoU, instead of its single mask.",
    ),
    Knob(
        "downsample_ratio",
        "Grid cell",
        "Its side in pixels: regions are found on a grid of such cells.",
    ),
    Knob(
        "confidence_threshold",
        "Confidence threshold",
        "Places where every class scores less belong to no region; 0 switches this off.",
    ),
)


def component(knob: Knob) -> gr.components.Component:
    """A check box, a choice, a slider or a number field, by what the option may be."""
    default = getattr(RefineOptions(), knob.option)
    label, info = knob.label, knob.explanation
    if isinstance(default, bool):
        return gr.Checkbox(default, label=label, info=info)
    if isinstance(default, Enum):
        choices = [choice.value for choice in type(default)]
        return gr.Radio(choices, value=default.value, label=label, info=info)
    low, high = RefineOptions.range_of(knob.option)
    step = 1 if isinstance(default, int) else 0.01
    if (high - low) / step <= _MOST_STEPS:
        return gr.Slider(low, high, value=default, step=step, label=label, info=info)
    precision = 0 if isinstance(default, int) else None
    return gr.Number(
        default, minimum=low, maximum=high, precision=precision, label=label, info=info
    )


def options_of(values: Sequence[Any]) -> RefineOptions:
    """The values of `KNOBS`, in order. Raises `InvalidRequestError`."""
    return RefineOptions(**{knob.option: v for knob, v in zip(KNOBS, values, strict=True)})
