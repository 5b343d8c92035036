"""Labelled images are read by the client's own reader: labels without scores, void, sizes."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.soft_scores import scores_of_labels
from sam_refine_quality import Sample
from sam_refine_quality.reading import ReadSample

TRUTH = np.array([[0, 0, 1, 1], [2, 2, 2, 255]])
COARSE = np.array([[0, 1, 1, 1], [2, 2, 0, 0]])
ALONE = Sample("a", np.zeros((2, 4, 3), np.uint8), None, TRUTH, COARSE)


def read(sample, **arguments):
    notes = Notes()
    found = ReadSample.of(sample, notes, **{"classes": 3, "void": 255, **arguments})
    return found, notes.sentences


def test_labels_without_scores_have_the_classes_that_have_names():
    found, said = read(ALONE)
    assert said == ()
    coarse = found.coarse(None)
    np.testing.assert_array_equal(coarse.labels, COARSE)
    np.testing.assert_array_equal(coarse.scores, scores_of_labels(COARSE, 3))
    assert found.truth.classes == 3
    np.testing.assert_array_equal(found.truth.valid, TRUTH != 255)


@pytest.mark.parametrize("void", [255, -1])
def test_void_of_the_truth_is_taken_and_said_where_nobody_names_it(void):
    found, (said,) = read(replace(ALONE, truth=np.where(TRUTH == 255, void, TRUTH)), void=None)
    assert "void" in said
    np.testing.assert_array_equal(found.truth.valid, TRUTH != 255)


def test_mask_of_0_and_255_is_the_truth_of_two_classes():
    mask = np.where(COARSE == 1, 255, 0)
    shares = (mask == 255).astype(np.float32)
    found, said = read(replace(ALONE, logits=shares, labels=None, truth=mask), void=None)
    assert "truth of 0 and 255 are taken as a mask: 255 is class 1" in said
    np.testing.assert_array_equal(found.truth.labels, mask // 255)


def test_void_of_the_coarse_map_is_what_each_set_of_options_says():
    coarse = np.where(COARSE == 1, 7, COARSE)
    found, said = read(replace(ALONE, labels=np.where(coarse == 7, 255, coarse)))
    assert found.coarse(None).void == 255
    assert len(said) == 1
    named, _ = read(replace(ALONE, labels=COARSE))
    assert named.coarse(2).options(RefineOptions(ignore_label=2)).ignore_label == 2
    assert named.coarse(2) is named.coarse(2)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"classes": None}, "do not say how many classes there are; give class_names"),
        ({}, {"like": 4}, "logits must have 4 classes like the images before, got 3"),
        ({"truth": TRUTH[:1]}, {}, "truth must be (2, 4) like its image, got (1, 4)"),
        ({"truth": TRUTH + 1}, {"void": 256}, "truth must have labels in [0, 3) or 256"),
        ({"labels": COARSE + 1}, {}, "labels must lie in [0, 3), of which there are scores"),
    ],
)
def test_sample_that_does_not_fit_is_refused(changes, arguments, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read(replace(ALONE, **changes), **arguments)
