"""Every option that a person would turn can be turned, in the contract's own range."""

from typing import Any

import gradio as gr
import pytest

from sam_refine.contract import (
    PRESET_HELP,
    PRESETS,
    FailedRegions,
    InvalidRequestError,
    MaskPrompt,
    RefineOptions,
)
from sam_refine_ui.knobs import KNOBS, component, options_of, preset_choice, values_of

LEFT_OUT = {"max_regions", "ignore_label"}
"""A guard for machines, and what goes with a label map."""


def knob(option):
    return next(knob for knob in KNOBS if knob.name == option)


def test_knobs_are_all_options_but_two():
    assert [knob.name for knob in KNOBS] == [name for name in RefineOptions.rows
                                             if name not in LEFT_OUT]  # fmt: skip


def test_components_untouched_are_the_default_options():
    assert options_of([component(knob).value for knob in KNOBS]) == RefineOptions()


def test_presets_turn_all_knobs():
    assert list(PRESET_HELP) == list(PRESETS)
    choices = [value for _, value in preset_choice().choices]
    assert choices == ["default", *PRESETS]
    assert options_of(values_of("default")) == RefineOptions()
    for preset in PRESETS:
        assert options_of(values_of(preset)) == RefineOptions.of_preset(preset)


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("iou_threshold", gr.Slider),
        ("downsample_ratio", gr.Slider),
        ("min_region_area", gr.Number),
        ("mask_prompt_scale", gr.Number),
        ("confidence_threshold", gr.Number),
    ],
)
def test_component_of_a_number_has_the_range_of_the_contract(option, kind):
    made = component(knob(option))
    assert isinstance(made, kind)
    assert (made.minimum, made.maximum) == RefineOptions.rows[option].range


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_component_says_what_its_option_does(knob):
    made: Any = component(knob)
    assert made.label == knob.label
    assert made.info.replace(" ", "_") == knob.full_help.replace(" ", "_")
    assert "_" not in made.info
    assert not any("_" in words for words, _ in getattr(made, "choices", ()))


def test_component_of_a_choice_offers_every_choice():
    made: dict[str, Any] = {
        name: component(knob(name)) for name in ("mask_prompt", "failed_regions")
    }
    offered = {name: [value for _, value in each.choices] for name, each in made.items()}
    assert offered == {
        "mask_prompt": [choice.value for choice in MaskPrompt],
        "failed_regions": [choice.value for choice in FailedRegions],
    }


def test_options_of_an_emptied_field_say_which_it_was():
    values = [None if knob.name == "min_region_area" else component(knob).value for knob in KNOBS]
    with pytest.raises(InvalidRequestError, match="min_region_area must be an integer in"):
        options_of(values)
