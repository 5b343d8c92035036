"""A judge in a repository takes what the pipeline sends, and no more."""

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument

from sam_refine.algorithm.judging.proposals import MASKS
from sam_refine.contract import (
    CHANGE_FEATURES,
    MASK_FEATURES,
    MOST_CHANGES,
    MOST_MASKS,
    MOST_PROMPTS,
)
from sam_refine_export import inspect_repository
from sam_refine_export.repository.repository import REFINE_CONFIG
from support.tiny_models import judge_network, with_judge


def features(masks, changes, value=0.5):
    """Of so many masks and changes, the last value of each another one."""
    named = {
        "mask_features": np.full((masks, len(MASK_FEATURES)), 0.5, np.float32),
        "change_features": np.full((changes, len(CHANGE_FEATURES)), 0.5, np.float32),
    }
    for each in named.values():
        each[-1:, -1:] = value
    return named


@pytest.fixture(scope="module")
def judge(repository, tmp_path_factory):
    judged = with_judge(repository, tmp_path_factory.mktemp("judge"))
    return onnxruntime.InferenceSession(judged / "sam_mask_judge/1/model.onnx")


def test_judge_makes_other_networks_of_a_repository(repository, tmp_path):
    judged = with_judge(repository, tmp_path)
    assert inspect_repository(judged).matches_card
    configs = [(each / REFINE_CONFIG).read_text(encoding="utf-8") for each in (repository, judged)]
    before, after = (set(config.splitlines()) for config in configs)
    ((line,), (other,)) = before - after, after - before
    assert '"networks_sha256"' in line
    assert '"networks_sha256"' in other


def test_judge_takes_all_that_the_decoder_draws_in_one_call():
    assert MOST_MASKS == MASKS * MOST_PROMPTS


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (MOST_MASKS, 0), (0, MOST_CHANGES)])
@pytest.mark.parametrize("value", [0.5, np.nan, 3e38])
def test_judge_within_bounds_says_what_it_said_without_them(judge, counts, value):
    """NaN is what stands where there was nothing to measure."""
    given = features(*counts, value)
    unbounded = onnxruntime.InferenceSession(judge_network().SerializeToString())
    for found, expected in zip(judge.run(None, given), unbounded.run(None, given), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (features(MOST_MASKS + 1, 0), "size 0 of mask_features must be in [0, 128]"),
        (features(0, MOST_CHANGES + 1), "size 0 of change_features must be in [0, 262144]"),
        (features(2, 0, np.inf), "mask_features must be finite or NaN"),
        (features(0, 2, -np.inf), "change_features must be finite or NaN"),
    ],
)
def test_judge_names_the_bound_that_is_broken(judge, given, text):
    with pytest.raises(Fail) as caught:
        judge.run(None, given)
    assert text in str(caught.value)


def test_judge_takes_no_other_number_of_features(judge):
    with pytest.raises(InvalidArgument, match="mask_features"):
        judge.run(None, features(2, 0) | {"mask_features": np.zeros((2, 28), np.float32)})
