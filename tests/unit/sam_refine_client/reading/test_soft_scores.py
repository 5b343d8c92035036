"""Scores of a label map: a distribution over classes, highest well inside, reaching outside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sam_refine_client.reading.soft_scores import RADII, score_size, scores_of_labels


def square(side=96, inner=(32, 64)):
    labels = np.zeros((side, side), np.int32)
    labels[slice(*inner), slice(*inner)] = 1
    return labels


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((255, 256), (255, 256)),
        ((400, 600), (171, 256)),
        ((600, 400), (256, 171)),
        ((1, 3000), (1, 256)),
        ((2048, 1024), (256, 128)),
    ],
)
def test_score_size_is_that_of_a_mask_prompt_or_less(size, expected):
    assert score_size(*size) == expected
    assert scores_of_labels(np.zeros(size, np.int32), 2).shape == (2, *expected)


@given(
    arrays.arrays(
        np.int32, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 3)
    )
)
def test_scores_are_a_distribution_over_classes_everywhere(labels):
    scores = scores_of_labels(labels, 4)
    assert scores.dtype == np.float32
    assert scores.min() >= -1e-6
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-5)


def test_scores_are_highest_in_the_middle_and_fall_towards_and_past_the_border():
    scores = scores_of_labels(square(), 2)[1]
    row = scores[48]
    assert row[47] == pytest.approx(row.max())
    assert (np.diff(row[:47]) >= -1e-6).all()
    assert row[32] > 0.5 > row[31] > 0  # the border lies between these
    assert row[32 - max(RADII)] > 0
    assert row[31 - max(RADII)] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("radius", RADII)
def test_scores_are_the_mean_of_box_means(radius, monkeypatch):
    monkeypatch.setattr("sam_refine_client.reading.soft_scores.RADII", (radius,))
    labels = np.random.default_rng(radius).integers(0, 2, (23, 31)).astype(np.int32)
    padded = np.pad((labels == 1).astype(float), radius, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
    np.testing.assert_allclose(scores_of_labels(labels, 2)[1], windows.mean((-1, -2)), atol=1e-5)


def test_scores_of_a_large_map_are_made_of_shares_of_cells():
    labels = np.zeros((512, 512), np.int32)
    labels[:, 1::2] = 1  # half of every cell
    np.testing.assert_allclose(scores_of_labels(labels, 2), 0.5, atol=1e-6)


def test_scores_of_pixels_of_no_class_are_missing():
    labels = np.full((20, 20), 2, np.int32)
    labels[:, :10] = 0
    scores = scores_of_labels(labels, 2)
    assert scores[1].max() == 0
    assert scores[:, :, -1].max() < 0.2


def test_scores_leave_their_labels_alone():
    labels = square()
    labels.setflags(write=False)
    scores_of_labels(labels, 2)
