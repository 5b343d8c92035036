import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_refine.numerics import argmax as argmax_module
from sam_refine.numerics import arrays
from sam_refine.numerics.argmax import RunningBest, argmax
from sam_refine.numerics.arrays import to_numpy
from support import exact

KINDS = ["positive", "ties", "negative", "mixed", "far_apart"]


def scores_of(kind, shape, seed):
    random = np.random.default_rng(seed)
    scores = {
        "positive": lambda: random.random(shape),
        "ties": lambda: random.integers(0, 3, shape) / 4,
        "negative": lambda: -random.random(shape),
        "mixed": lambda: random.normal(size=shape),
        "far_apart": lambda: random.normal(size=shape) * 10.0 ** random.integers(-6, 5, shape),
    }[kind]()
    return scores.astype(random.choice([np.float16, np.float32]))


def argmax_straight(scores, size):
    return exact.bilinear(scores, size).argmax(axis=0)


@settings(max_examples=200)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 7),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.sampled_from([0, 0, 1, 5, 37]), st.sampled_from([0, 0, 1, 6, 40])),
    st.integers(0, 2**32 - 1),
)
def test_argmax_equals_that_of_upsampled_scores(library, kind, classes, low, larger, seed):
    size = low[0] + larger[0], low[1] + larger[1]
    scores = scores_of(kind, (classes, *low), seed)
    labels = to_numpy(argmax(library(scores), size))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, argmax_straight(scores, size))


@pytest.mark.parametrize("band", [1, 500, 5000])
@pytest.mark.parametrize("low", [(11, 13), (90, 71)])
def test_argmax_band_by_band_equals_that_of_upsampled_scores(monkeypatch, band, low):
    for module in (arrays, argmax_module):
        monkeypatch.setattr(module, "BAND", band)
    scores = scores_of("mixed", (5, *low), 3)
    np.testing.assert_array_equal(argmax(scores, (90, 71)), argmax_straight(scores, (90, 71)))


def test_argmax_leaves_the_scores_alone(library):
    for size in [(3, 4), (9, 8)]:
        scores = scores_of("mixed", (3, 3, 4), 0).astype(np.float32)
        given_scores = library(scores.copy())
        argmax(given_scores, size)
        np.testing.assert_array_equal(to_numpy(given_scores), scores)


def test_running_best_gives_ties_to_the_lowest_class(library):
    best = RunningBest(library(np.array([0.5, 0.1, 0.9], np.float32)))
    best.add(1, library(np.array([0.5, 0.3, 0.2], np.float32)))
    best.add(4, library(np.array([0.3, 0.8], np.float32)), slice(1, 3))
    assert to_numpy(best.class_id).tolist() == [0, 1, 0]
    np.testing.assert_allclose(to_numpy(best.score), [0.5, 0.3, 0.9])
