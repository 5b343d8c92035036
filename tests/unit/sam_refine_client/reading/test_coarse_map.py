"""The coarse map as it is sent, and by the caller's own ids afterwards."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_client.reading.coarse_map import read_coarse_map
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.soft_scores import scores_of_labels

LABELS = np.array([[0, 0, 7, 7], [0, 9, 9, 7]])
SCORES = np.full((3, 2, 4), 1 / 3, np.float32)


def read(logits=None, labels=None, **arguments):
    notes = Notes()
    found = read_coarse_map(logits, labels, notes, **{"size_hw": (2, 4), **arguments})
    return found, notes.sentences


def test_labels_with_gaps_are_numbered_without_and_named_back():
    coarse, said = read(labels=LABELS)
    assert said == ()
    np.testing.assert_array_equal(coarse.labels, [[0, 0, 1, 1], [0, 2, 2, 1]])
    np.testing.assert_array_equal(coarse.scores, scores_of_labels(coarse.labels, 3))
    assert coarse.options(RefineOptions()) == RefineOptions()
    np.testing.assert_array_equal(coarse.own(coarse.labels), LABELS)
    assert [coarse.own_class(i) for i in range(3)] == [0, 7, 9]


def test_mask_of_0_and_255_is_two_classes_that_keep_their_ids():
    mask = np.where(LABELS > 0, 255, 0)
    coarse, said = read(labels=mask)
    assert said == ("labels of 0 and 255 are taken as a mask: two classes, and no void",)
    assert (len(coarse.scores), coarse.void) == (2, None)
    np.testing.assert_array_equal(coarse.own(coarse.labels), mask)


@pytest.mark.parametrize(
    ("given", "void"), [(255, None), (255, 255), (-1, None), (-1, -1), (9, 9), (1000, 1000)]
)
def test_void_of_labels_is_no_class_and_keeps_its_number(given, void):
    labels = np.where(LABELS == 9, given, LABELS)
    coarse, _ = read(labels=labels, ignore_label=void)
    expected = 255 if given == -1 else given
    np.testing.assert_array_equal(coarse.labels, [[0, 0, 1, 1], [0, 2, 2, 1]])
    assert (len(coarse.scores), coarse.void) == (2, expected)
    options = RefineOptions(iou_threshold=0.5, ignore_label=void)
    assert coarse.options(options) == RefineOptions(iou_threshold=0.5, ignore_label=2)
    np.testing.assert_array_equal(
        coarse.own(coarse.labels), np.where(LABELS == 9, expected, LABELS)
    )


def test_void_that_is_not_there_is_not_sent():
    coarse, _ = read(labels=LABELS, ignore_label=255)
    assert coarse.options(RefineOptions(ignore_label=255)).ignore_label is None
    assert coarse.void == 255
    np.testing.assert_array_equal(coarse.own(coarse.labels), LABELS)


def test_number_of_classes_that_is_known_leaves_ids_alone():
    coarse, _ = read(labels=np.minimum(LABELS, 8), classes=10)
    assert (len(coarse.scores), coarse.class_ids) == (10, None)
    np.testing.assert_array_equal(coarse.labels, np.minimum(LABELS, 8))


def test_scores_alone_are_sent_with_the_callers_options():
    coarse, said = read(SCORES + np.array([-0.1, 0.1, 0], np.float32)[:, None, None])
    assert (coarse.labels, said) == (None, ())
    options = RefineOptions(ignore_label=2)
    assert coarse.options(options) is options


@pytest.mark.parametrize("factor", [0, 1])
def test_scores_that_are_the_same_for_all_classes_are_said_where_they_make_the_map(factor):
    said = read(SCORES * factor)[1]
    assert "all of the coarse map is class 0" in said[-1]


def test_labels_with_scores_are_those_of_the_scores():
    coarse, said = read(SCORES, np.minimum(LABELS, 2))
    assert said == ()
    np.testing.assert_array_equal(coarse.labels, np.minimum(LABELS, 2))
    assert coarse.class_ids is None


@pytest.mark.parametrize("void", [255, -1])
def test_void_of_labels_with_scores_is_255(void):
    labels = np.where(LABELS == 9, void, np.minimum(LABELS, 2))
    coarse, (said,) = read(SCORES, labels)
    assert "void" in said
    assert coarse.options(RefineOptions()).ignore_label == coarse.void == 255
    np.testing.assert_array_equal(coarse.labels == 255, LABELS == 9)
    assert coarse.own(coarse.labels) is coarse.labels


def test_mask_with_two_classes_of_scores_is_class_1_and_said():
    coarse, said = read(SCORES[:2] * 1.5, np.where(LABELS > 0, 255, 0))
    assert said == ("labels of 0 and 255 are taken as a mask: 255 is class 1",)
    np.testing.assert_array_equal(coarse.labels, LABELS > 0)


@pytest.mark.parametrize("has_void", [False, True])
def test_labels_that_count_from_1_beside_their_scores_are_said(has_void):
    classes = np.repeat(np.arange(4), 10)[None].repeat(20, 0)  # class 3 is the last of 5
    classes[:3] = 1
    scores = np.eye(5, dtype=np.float32)[classes].transpose(2, 0, 1)[:, ::2, ::2]
    labels = classes + 1
    if has_void:
        labels[:, :4] = 0
    coarse, (said,) = read(scores, labels, size_hw=(20, 40))
    assert re.search(
        r"labels - 1 at \d+%: if they count from 1, give labels.astype\(int\) - 1", said
    )
    np.testing.assert_array_equal(coarse.labels, labels)
    assert read(scores, classes, size_hw=(20, 40))[1] == ()
    assert read(scores, np.full((20, 40), 1), size_hw=(20, 40))[1] == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give logits, which are class scores (C, h, w), or labels (H, W), or both; got none"),
        ({"labels": LABELS, "activation": "softmax"}, "activation goes with logits, got labels"),
        ({"logits": SCORES, "palette": "voc"}, "palette goes with labels in colours, got no"),
        ({"labels": np.full((2, 4), 4), "ignore_label": 4}, "1 to 256 different labels, got 0"),
        ({"labels": np.arange(300).reshape(20, 15), "size_hw": (20, 15)}, "got 300; are they inst"),
        ({"logits": SCORES, "labels": LABELS}, "must lie in [0, 3), of which there are scores"),
        ({"logits": SCORES, "labels": LABELS * 0 + [1, 2, 3, 1]}, "if they count from 1, give lab"),
        ({"logits": SCORES, "labels": LABELS * 0 + [0, 2, 3, 1]}, "where 0 becomes -1, which is v"),
        ({"labels": LABELS, "classes": 5}, "got 7 (5 pixels in all are outside)"),
    ],
)
def test_maps_that_are_wrong_are_refused(arguments, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read(**arguments)


@pytest.mark.parametrize("label", [255, 65535])
def test_map_of_nothing_but_what_is_often_void_is_said(label):
    coarse, (said,) = read(labels=np.full((2, 4), label))
    assert said == f"labels are all {label}: taken as one class that fills the image, not as void"
    assert coarse.void is None
