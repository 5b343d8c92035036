"""The options of a request as things to turn; all that is known of them is the contract's."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

import gradio as gr

from sam_refine.contract import PRESET_HELP, PRESETS, OptionRow, RefineOptions

_MOST_STEPS: Final = 100
"""A range of more is typed, not slid."""

DEFAULTS: Final = "default"
"""The choice beside the presets."""
KNOBS: Final = tuple(row for row in RefineOptions.rows.values() if row.on_page)


def component(knob: OptionRow) -> gr.components.Component:
    """A check box, a choice, a slider or a number field, by what the option may be."""
    label, info, default = knob.label, knob.full_help, knob.default
    if knob.kind is bool:
        return gr.Checkbox(default, label=label, info=info)
    if knob.range is None:
        choices = [(in_words(choice.value), choice.value) for choice in knob.choices]
        for words, value in choices:
            info = info.replace(value, words)
        return gr.Radio(choices, value=default.value, label=label, info=info)
    low, high = knob.range
    step = 1 if knob.kind is int else 0.01
    if (high - low) / step <= _MOST_STEPS:
        return gr.Slider(low, high, value=default, step=step, label=label, info=info)
    precision = 0 if knob.kind is int else None
    return gr.Number(
        default, minimum=low, maximum=high, precision=precision, label=label, info=info
    )


def in_words(identifier: str) -> str:
    """As people read it: "keep coarse" for keep_coarse."""
    return identifier.replace("_", " ")


def preset_choice() -> gr.Radio:
    """What turns all knobs at once."""
    return gr.Radio(
        [DEFAULTS, *PRESETS],
        value=DEFAULTS,
        label="Preset",
        info=f"Sets all options. {'; '.join(map(': '.join, PRESET_HELP.items()))}.",
    )


def values_of(preset: str) -> list[Any]:
    """What the knobs are turned to, in the order of `KNOBS`."""
    options = RefineOptions() if preset == DEFAULTS else RefineOptions.of_preset(preset)
    values = [getattr(options, knob.name) for knob in KNOBS]
    return [value.value if isinstance(value, Enum) else value for value in values]


def options_of(values: Sequence[Any]) -> RefineOptions:
    """The values of `KNOBS`, in order. Raises `InvalidRequestError`."""
    return RefineOptions(**{knob.name: value for knob, value in zip(KNOBS, values, strict=True)})
