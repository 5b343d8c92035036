"""The options of a request: defaults, rules, and the way over the wire."""

import pickle
from dataclasses import fields, replace

import pytest

from sam_refine.contract import FailedRegions, InvalidRequestError, MaskPrompt, RefineOptions


def test_options_default_to_algorithm_4_and_keep_what_failed():
    assert RefineOptions() == RefineOptions(
        downsample_ratio=2,
        confidence_threshold=0.0,
        iou_threshold=0.8,
        mask_prompt=MaskPrompt.TRIDENT,
        mask_prompt_scale=0.005,
        min_region_area=0,
        failed_regions=FailedRegions.KEEP_COARSE,
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


@pytest.mark.parametrize("name", [name for name, row in RefineOptions.rows.items() if row.range])
def test_options_at_the_ends_of_their_range_are_accepted_and_past_them_refused(name):
    low, high = RefineOptions.rows[name].range
    for value in (low, high):
        assert getattr(RefineOptions(**{name: value}), name) == value
    step = max(1, abs(high) * 1e-6)
    for value in (low - 1, high + step):
        with pytest.raises(InvalidRequestError, match=f"^{name} must be"):
            RefineOptions(**{name: int(value) if isinstance(low, int) else value})


def test_options_that_may_be_none_are_those_of_a_deployment_and_of_a_map():
    optional = [name for name, row in RefineOptions.rows.items() if row.is_optional]
    assert optional == ["max_regions", "ignore_label"]
    for name in RefineOptions.rows.keys() - optional:
        with pytest.raises(InvalidRequestError, match=f"^{name} must be .+, got None$"):
            RefineOptions(**{name: None})


def test_options_of_unknown_name_are_refused_with_the_known_ones():
    with pytest.raises(InvalidRequestError, match="'tau' is not an option; the options are conf"):
        RefineOptions.from_parameters({"tau": 1})


def test_options_survive_pickle_and_replace():
    options = RefineOptions(mask_prompt=MaskPrompt.SAM, max_regions=3)
    assert pickle.loads(pickle.dumps(options)) == options
    assert pickle.loads(pickle.dumps(options)).mask_prompt is MaskPrompt.SAM
    with pytest.raises(InvalidRequestError, match="max_regions"):
        replace(options, max_regions=0)


# --- Texts -----------------------------------------------------------------------------------


def test_rows_are_the_fields_in_their_order_with_their_defaults():
    assert [(row.name, row.default) for row in RefineOptions.rows.values()] == [
        (option.name, option.default) for option in fields(RefineOptions)
    ]


@pytest.mark.parametrize("row", RefineOptions.rows.values(), ids=lambda row: row.name)
def test_texts_of_a_row_are_whole_sentences_for_a_line_or_two(row):
    for text in (row.full_help, row.reason):
        assert text[0].isupper()
        assert text.endswith(".")
        assert "\n" not in text
        assert "|" not in text  # a cell of a table
    assert 0 < len(row.label) <= 25
    assert len(row.help) <= 140
    assert all(not choice.explanation.endswith(".") for choice in row.choices)
