import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_refine.algorithm.judging.judge import LearnedJudge, RuleJudge
from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES

LIKELY = {
    "score_old": 0.5,
    "score_new": 0.3,
    "score_region": 0.7,
    "logit": 4.0,
    "consensus": 0.75,
    "depth_old": 2.0,
}


def changes(**columns):
    """(m, n) features: `LIKELY`, and arrays (m,) by name."""
    count = max(np.size(values) for values in columns.values())
    features = np.zeros((count, len(CHANGE_FEATURES)), np.float32)
    for name, values in {**LIKELY, **columns}.items():
        features[:, CHANGE_FEATURES.index(name)] = values
    return features


def masks(**columns):
    features = np.zeros((1, len(MASK_FEATURES)), np.float32)
    for name, value in columns.items():
        features[0, MASK_FEATURES.index(name)] = value
    return features


@pytest.mark.parametrize(
    ("name", "values", "rises"),
    [
        ("score_new", [0.0, 0.1, 0.3, 0.5], True),
        ("score_old", [0.3, 0.5, 0.7, 0.9], False),
        ("logit", [0.5, 2, 4, 8], True),
        ("logit", [-0.5, -2, -4, -8], False),  # with a consensus that it should stay
        ("consensus", [0.25, 0.5, 0.75, 1.0], True),
        ("score_region", [0.4, 0.6, 0.8, 1.0], False),
    ],
)
def test_rule_weighs_sam_against_the_network(name, values, rises):
    features = changes(**{name: np.float32(values)})
    gains = RuleJudge().change_gains(features)
    if name == "logit" and not rises:  # sure of what it removes, sign aside
        rises = True
    assert (np.diff(gains) > 0).all() if rises else (np.diff(gains) < 0).all()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6))
@settings(max_examples=100, deadline=None)
def test_rule_s_gains_are_gains_whatever_the_scores(values):
    """Scores that are no probabilities are judged badly, but never make a number that is none."""
    gains = RuleJudge().change_gains(changes(**dict(zip(LIKELY, values, strict=True))))
    assert np.isfinite(gains).all()
    assert (np.abs(gains) <= 1).all()


def test_rule_asks_how_much_of_a_mask_is_the_region():
    judge = RuleJudge()
    assert judge.mask_gains(masks(region_iou=0.5, predicted_iou=0.8))[0] == pytest.approx(0.4)
    assert judge.mask_gains(masks(region_iou=0.5, predicted_iou=1.2))[0] == pytest.approx(0.5)
    assert judge.mask_gains(masks(region_iou=0.0, predicted_iou=0.9))[0] == 0


def test_learned_judge_asks_its_model_one_question_at_a_time():
    asked = []

    def infer(mask_features, change_features):
        asked.append((mask_features.shape, change_features.shape))
        return np.full((len(mask_features), 1), 0.25), np.full((len(change_features), 1), 0.5)

    judge = LearnedJudge(infer)
    np.testing.assert_array_equal(judge.mask_gains(masks(region_iou=1)), [0.25])
    np.testing.assert_array_equal(judge.change_gains(changes(logit=[1, 2])), [0.5, 0.5])
    columns = len(MASK_FEATURES), len(CHANGE_FEATURES)
    assert asked == [((1, columns[0]), (0, columns[1])), ((0, columns[0]), (2, columns[1]))]
