"""A label map is numbered without gaps for the way there, and by its own numbers afterwards."""

import numpy as np
import pytest

from sam_refine.contract import InvalidRequestError, Outcome, RefineOptions
from sam_refine_client import RefineResult, Region
from sam_refine_ui.coarse.coarse_map import CoarseMap

LABELS = np.array([[0, 0, 255, 255], [0, 7, 7, 255]], np.int32)


def result(labels, classes):
    regions = tuple(
        Region(class_id, (0, 0, 1, 1), 0.5, 0.9, True, Outcome.REFINED, -1, 0.0)
        for class_id in classes
    )
    return RefineResult(
        labels=labels,
        coarse_labels=labels[:, ::-1],
        logits=None,
        regions=regions,
        timings={},
        request_id="x",
    )


def test_labels_with_gaps_are_numbered_without_and_named_back():
    coarse = CoarseMap.of_labels(LABELS)
    np.testing.assert_array_equal(coarse.labels, [[0, 0, 2, 2], [0, 1, 1, 2]])
    assert coarse.scores.shape == (3, 2, 4)
    assert coarse.options(RefineOptions()) == RefineOptions()
    named = coarse.named(result(coarse.labels, [0, 1, 2]))
    np.testing.assert_array_equal(named.labels, LABELS)
    np.testing.assert_array_equal(named.coarse_labels, LABELS[:, ::-1])
    assert [region.class_id for region in named.regions] == [0, 7, 255]


def test_labels_that_are_ignored_are_no_class_and_keep_their_number():
    coarse = CoarseMap.of_labels(LABELS, ignore_label=255)
    np.testing.assert_array_equal(coarse.labels, [[0, 0, 2, 2], [0, 1, 1, 2]])
    assert coarse.scores.shape == (2, 2, 4)
    assert coarse.options(RefineOptions(iou_threshold=0.5)) == RefineOptions(
        iou_threshold=0.5, ignore_label=2
    )
    named = coarse.named(result(coarse.labels, [0, 1]))
    np.testing.assert_array_equal(named.labels, LABELS)


@pytest.mark.parametrize("ignore_label", [3, 1000])
def test_labels_that_are_ignored_may_be_absent(ignore_label):
    coarse = CoarseMap.of_labels(LABELS, ignore_label)
    np.testing.assert_array_equal(coarse.named(result(coarse.labels, [])).labels, LABELS)


def test_scores_alone_are_named_by_their_place():
    coarse = CoarseMap(np.zeros((2, 3, 3), np.float16))
    given = result(np.zeros((3, 3), np.int32), [1])
    assert coarse.named(given) is given
    assert coarse.options(RefineOptions()) == RefineOptions()


@pytest.mark.parametrize(
    ("labels", "ignore_label", "count"),
    [(np.arange(257).reshape(1, 257), None, 257), (np.full((3, 3), 4), 4, 0)],
)
def test_labels_of_too_many_classes_or_none_are_refused(labels, ignore_label, count):
    message = f"a label map must have 1 to 256 different labels, got {count}"
    with pytest.raises(InvalidRequestError, match=message):
        CoarseMap.of_labels(labels.astype(np.int32), ignore_label)
