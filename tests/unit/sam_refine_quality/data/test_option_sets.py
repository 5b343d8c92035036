"""Option sets as they are written."""

from __future__ import annotations

import json
import re

import pytest

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_quality.data.option_sets import read_option_sets


def test_without_a_text_there_is_the_set_of_defaults():
    assert read_option_sets([]) == {"default": RefineOptions()}


def test_sets_have_their_options_and_the_defaults_of_the_others():
    texts = ["plain:", "b: iou_threshold=0.5, mask_prompt = sam", "c:multimask_output=true"]
    sets = read_option_sets(texts)
    assert list(sets) == ["plain", "b", "c"]
    assert sets["plain"] == RefineOptions()
    assert sets["b"] == RefineOptions(iou_threshold=0.5, mask_prompt="sam")
    assert sets["c"] == RefineOptions(multimask_output=True)


@pytest.mark.parametrize("wrap", [lambda options: options, lambda options: {"options": options}])
def test_set_of_a_file_is_its_object_or_its_key_options(tmp_path, wrap):
    path = tmp_path / "a:b.json"
    options = {"iou_threshold": 0.5, "ignore_label": None, "multimask_output": True}
    path.write_text(json.dumps(wrap(options)), encoding="utf-8")
    assert read_option_sets([f"tuned={path}"]) == {
        "tuned": RefineOptions(iou_threshold=0.5, multimask_output=True)
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a"], "option sets must be NAME:key=value,... or NAME=FILE.json, got 'a'"),
        ([":iou_threshold=1"], "a name that is not empty, got ':iou_threshold=1'"),
        ([" ="], "a name that is not empty, got ' ='"),
        (["a="], "got no file in 'a='"),
        (["a:", "b:", "a:iou_threshold=1"], "different names, got 'a' twice"),
        (["a:iou=1"], "option set 'a': parameter 'iou' is not an option; the options are"),
        (["a:iou_threshold=2"], "option set 'a': iou_threshold must be a finite number in"),
        (["a:iou_threshold"], "option set 'a' must have key=value between commas, got 'iou_t"),
        (["a:iou_threshold="], "key=value between commas"),
        (["a:iou_threshold=1,"], "key=value between commas, got ''"),
        (["a:iou_threshold=1,iou_threshold=0"], "each key once, got iou_threshold twice"),
        (["a:image_id=x"], "parameter 'image_id' is not an option"),
    ],
)
def test_text_that_is_none_is_refused(texts, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read_option_sets(texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "must have a JSON object of options, or one at the key options, got list"),
        ('{"options": 3}', "got int"),
        ('{"iou": 1}', "parameter 'iou' is not an option"),
    ],
)
def test_file_that_is_none_is_refused_by_its_name(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=rf"a\.json.*{re.escape(message)}"):
        read_option_sets([f"tuned={tmp_path / 'a.json'}"])


def test_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"none\.json"):
        read_option_sets([f"tuned={tmp_path / 'none.json'}"])
