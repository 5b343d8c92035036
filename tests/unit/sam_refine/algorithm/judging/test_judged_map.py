import numpy as np
import pytest

from sam_refine.algorithm.judging.changes import Changes
from sam_refine.algorithm.judging.merge import judged_map
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import CHANGE_FEATURES

SIZE = (6, 8)


@pytest.fixture
def case():
    """Probabilities (4, 3, 4) of an image of twice the size, S, and changes to the second best."""
    values = np.random.default_rng(3).random((4, 3, 4)).astype(np.float32)
    scores = ClassScores(values / values.sum(axis=0), SIZE)
    labels = scores.argmax()
    rows, columns = np.nonzero(np.random.default_rng(4).random(SIZE) < 0.5)
    second = np.argsort(-scores.image(), axis=0, kind="stable")[1]
    changes = Changes(
        rows,
        columns,
        labels[rows, columns],
        second[rows, columns].astype(np.int32),
        np.zeros(len(rows), np.int32),
        SIZE,
        np.zeros((len(rows), len(CHANGE_FEATURES)), np.float32),
    )
    passed = np.arange(len(rows)) % 2 == 0
    return scores, labels, changes, passed


def test_labels_are_the_argmax_of_the_scores(case):
    scores, labels, changes, passed = case
    judged = judged_map(labels, scores, changes, passed, want_logits=True)
    np.testing.assert_array_equal(judged.labels, judged.logits.argmax(axis=0))
    np.testing.assert_array_equal(
        np.argwhere(judged.labels != labels),
        np.stack([changes.rows, changes.columns], axis=1)[passed],
    )


def test_each_pixel_keeps_its_scores_in_another_order(case):
    scores, labels, changes, passed = case
    judged = judged_map(labels, scores, changes, passed, want_logits=True)
    before = scores.image()
    np.testing.assert_array_equal(np.sort(judged.logits, axis=0), np.sort(before, axis=0))
    same = judged.labels == labels
    np.testing.assert_array_equal(judged.logits[:, same], before[:, same])


def test_nothing_passed_is_the_map_as_it_came(case):
    scores, labels, changes, passed = case
    judged = judged_map(labels, scores, changes, np.zeros_like(passed), want_logits=True)
    np.testing.assert_array_equal(judged.labels, labels)
    np.testing.assert_array_equal(judged.logits, scores.image())


def test_labels_alone_make_no_scores(case):
    scores, labels, changes, passed = case
    before = labels.copy()
    judged = judged_map(labels, scores, changes, passed, want_logits=False)
    assert judged.logits is None
    np.testing.assert_array_equal(labels, before)
