import re

import numpy as np
import pytest

from sam_refine.contract import (
    MODELS,
    SAM_REFINE,
    ArrayLibrary,
    FailedRegions,
    InvalidRequestError,
    Limits,
    MaskPrompt,
    RefineOptions,
    choice,
)


def test_options_default_to_the_published_algorithm():
    assert RefineOptions() == RefineOptions(
        downsample_ratio=2,
        confidence_threshold=0.0,
        iou_threshold=0.8,
        mask_prompt=MaskPrompt.TRIDENT,
        mask_prompt_scale=0.005,
        min_region_area=0,
        failed_regions=FailedRegions.SCORES_ONLY,
        multimask_output=False,
        max_regions=None,
        ignore_label=None,
    )


@pytest.mark.parametrize(
    "options",
    [
        RefineOptions(),
        RefineOptions(
            downsample_ratio=1,
            confidence_threshold=0.25,
            iou_threshold=0.0,
            mask_prompt=MaskPrompt.NONE,
            mask_prompt_scale=1.0,
            min_region_area=225,
            failed_regions=FailedRegions.COMPETE,
            multimask_output=True,
            max_regions=3,
            ignore_label=255,
        ),
    ],
)
def test_options_survive_the_way_over_the_wire(options):
    parameters = options.to_parameters()
    assert {type(value) for value in parameters.values()} <= {str, int, float, bool}
    assert RefineOptions.from_parameters(parameters) == options


def test_options_may_come_as_text():
    texts = {"iou_threshold": "0.5", "downsample_ratio": "4", "multimask_output": "true",
             "ignore_label": "-1", "mask_prompt": "sam"}  # fmt: skip
    assert RefineOptions.from_parameters(texts) == RefineOptions(
        iou_threshold=0.5,
        downsample_ratio=4,
        multimask_output=True,
        ignore_label=-1,
        mask_prompt=MaskPrompt.SAM,
    )


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("downsample_ratio", 0, r"must be an integer in \[1, 64\], got 0"),
        ("downsample_ratio", 2.5, "must be an integer"),
        ("downsample_ratio", True, "must be an integer"),
        ("downsample_ratio", "two", "must be an integer"),
        ("confidence_threshold", -0.1, r"must be a finite number in \[0, 1e\+30\], got -0.1"),
        ("confidence_threshold", float("nan"), "must be a finite number"),
        ("confidence_threshold", float("inf"), "must be a finite number"),
        ("iou_threshold", 1.01, r"must be a finite number in \[0, 1\], got 1.01"),
        ("iou_threshold", None, "must be a finite number"),
        ("mask_prompt", "SAM", "must be one of 'none', 'sam', 'trident', got 'SAM'"),
        ("mask_prompt_scale", 1e39, r"must be a finite number in \[0, 1e\+06\], got 1e\+39"),
        ("min_region_area", -1, "must be an integer in"),
        ("failed_regions", 1, "must be one of 'scores_only', 'compete', 'keep_coarse', got 1"),
        ("multimask_output", 1, "must be true or false, got 1"),
        ("multimask_output", "yes", "must be true or false, got 'yes'"),
        ("mask_prompt", "x" * 5000, "must be one of .{10,200}$"),
        ("max_regions", " 1_0", "must be an integer"),
        ("max_regions", 0, "must be an integer in"),
        ("ignore_label", 2**31, "must be an integer in"),
    ],
)
def test_options_outside_their_range_are_refused(name, value, rule):
    with pytest.raises(InvalidRequestError, match=f"^{name} {rule}"):
        RefineOptions.from_parameters({name: value})


@pytest.mark.parametrize(
    ("name", "range_"),
    [
        ("downsample_ratio", (1, 64)),
        ("iou_threshold", (0.0, 1.0)),
        ("min_region_area", (0, 2**31 - 1)),
    ],
)
def test_range_of_an_option_holds_what_is_accepted(name, range_):
    assert RefineOptions.range_of(name) == range_
    for value in range_:
        assert getattr(RefineOptions(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["mask_prompt", "multimask_output", "tau"])
def test_range_of_what_is_no_number_is_a_key_error(name):
    with pytest.raises(KeyError, match=f"{name} is no option with a range"):
        RefineOptions.range_of(name)


def test_options_of_unknown_name_are_refused_with_the_known_ones():
    with pytest.raises(InvalidRequestError, match="'tau' is not an option; the options are conf"):
        RefineOptions.from_parameters({"tau": 1})


def test_limits_read_their_own_parameters_only():
    limits = Limits.from_parameters({"max_regions": "7", "something_else": "x"})
    assert limits == Limits(max_regions=7)


def test_limits_must_be_positive_integers():
    with pytest.raises(InvalidRequestError, match="max_classes must be an integer >= 1, got 'a'"):
        Limits.from_parameters({"max_classes": "a"})


def test_tensor_spec_dims_have_minus_one_for_sizes_that_vary():
    image = next(spec for spec in SAM_REFINE.inputs if spec.name == "IMAGE")
    assert (image.dims, image.dtype) == ((-1, -1, 3), np.uint8)


def test_models_have_distinct_names_and_tensors():
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    for model in MODELS:
        tensors = [*model.input_names, *model.output_names]
        assert len(set(tensors)) == len(tensors)


# --- choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["torch", ArrayLibrary.TORCH])
def test_choice_of_a_member_or_its_value_is_the_member(value):
    assert choice("array_library", value, ArrayLibrary) is ArrayLibrary.TORCH


@pytest.mark.parametrize("value", ["jax", "TORCH", None, 1, ["torch"]])
@pytest.mark.parametrize(
    ("rule", "message"), [(None, "one of 'numpy', 'torch'"), ("numpy or torch", "numpy or torch")]
)
def test_choice_of_anything_else_is_refused_by_its_rule(value, rule, message):
    expected = f"library must be {message}, got {value!r}"
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(expected)}$"):
        choice("library", value, ArrayLibrary, rule)
