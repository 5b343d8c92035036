import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_refine.algorithm import scores as scores_module
from sam_refine.algorithm.scores import ClassScores, GridScores, coarse_map, grid_size
from sam_refine.numerics import arrays
from sam_refine.numerics.arrays import Window, full_window, to_numpy
from support import exact
from support.drawings import columns_drawn_in

SIDES = st.integers(1, 30)


@st.composite
def class_scores(draw):
    """Scores (C, h, w) of few or many values, and the sizes of image and grid."""
    classes, low = draw(st.integers(1, 5)), (draw(SIDES), draw(SIDES))
    size = tuple(side + draw(st.sampled_from([0, 0, 1, 7, 40])) for side in low)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.normal(size=(classes, *low))
    if draw(st.booleans()):
        values = np.round(values * 4) / 4
    values = values.astype(draw(st.sampled_from([np.float16, np.float32])))
    return values, size, grid_size(size, draw(st.integers(1, 4)))


def test_grid_size_is_floored_and_never_empty():
    assert grid_size((5, 7), 2) == (2, 3)
    assert grid_size((1, 7), 4) == (1, 1)


def test_coarse_map_gives_ties_to_the_lowest_class(library):
    scores = library(np.array([[[0.2, 0.5]], [[0.5, 0.5]], [[0.5, 0.1]]], np.float32))
    labels_image, _, _ = coarse_map(ClassScores(scores, (1, 2)), None, (1, 1))
    assert to_numpy(labels_image).tolist() == [[1, 0]]


def test_coarse_map_takes_the_upper_left_label_as_drawn(library):
    labels, expected = columns_drawn_in(scores_module)
    scores = ClassScores(library(np.zeros((3, 8, 8), np.float32)), (8, 8))
    _, labels_grid, _ = coarse_map(scores, library(labels.astype(np.int32)), grid_size((8, 8), 2))
    np.testing.assert_array_equal(labels_grid.astype(str), expected)


def test_coarse_map_downsamples_labels_by_nearest_and_scores_by_bilinear(library):
    labels = library(np.arange(25, dtype=np.int32).reshape(5, 5))
    values = library(np.arange(25, dtype=np.float32).reshape(1, 5, 5))
    labels_image, labels_grid, scores = coarse_map(ClassScores(values, (5, 5)), labels, (2, 2))
    assert labels_image is labels
    assert labels_grid.tolist() == [[0, 2], [10, 12]]  # floor(i * 5 / 2)
    own = scores.own(np.zeros((2, 2), np.int32))
    np.testing.assert_allclose(own, [[4.5, 7], [17, 19.5]])  # sources 0.75 and 3.25


@given(class_scores())
def test_scores_in_the_image_equal_the_upsampled_array(library, drawn):
    values, size, _ = drawn
    expected = exact.bilinear(values, size)
    scores = ClassScores(library(values), size)
    image = to_numpy(scores.image())
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, expected)
    window = Window(*(slice(side // 3, side // 3 + max(1, side // 2)) for side in size))
    np.testing.assert_array_equal(to_numpy(scores.plane(0, window)), expected[0][window])
    best_classes = scores.argmax()
    np.testing.assert_array_equal(to_numpy(best_classes), expected.argmax(axis=0))
    best = to_numpy(scores.at(best_classes[window], window))
    np.testing.assert_array_equal(best, expected.max(axis=0)[window])


@settings(max_examples=60)
@given(class_scores(), st.sampled_from([-1.0, -0.25, 0.0, 0.25, 0.7]), st.integers(0, 1000))
def test_scores_on_the_grid_equal_the_downsampled_array(library, drawn, threshold, seed):
    values, size, size_grid = drawn
    expected = exact.bilinear(values, size, size_grid)
    scores = GridScores(ClassScores(library(values), size), size_grid)
    assert len(scores) == len(values)

    random = np.random.default_rng(seed)
    labels = random.integers(0, len(values), size_grid).astype(np.int32)
    np.testing.assert_array_equal(scores.own(labels), np.choose(labels, expected))
    cells = random.random(size_grid) < 0.7
    threshold = float(np.float32(threshold))
    for classes in ([0], range(len(values))):
        reached = (expected[list(classes)] >= threshold).any(axis=0) & cells
        np.testing.assert_array_equal(scores.reached(threshold, cells, classes), reached)


def test_scores_know_whether_a_window_is_made_of_negative_ones(library):
    values = np.ones((2, 4, 4), np.float16)
    values[1, 0, 0] = -0.5
    scores = ClassScores(library(values), (16, 16))
    assert scores.nonnegative(0, full_window((16, 16)))
    assert not scores.nonnegative(1, full_window((16, 16)))
    assert not scores.nonnegative(1, Window(slice(5, 6), slice(0, 1)))
    assert scores.nonnegative(1, Window(slice(6, 16), slice(0, 16)))


@pytest.mark.parametrize("low", [(64, 54), (8, 9)])
def test_scores_band_by_band_equal_the_upsampled_array(monkeypatch, low):
    monkeypatch.setattr(arrays, "BAND", 1000)
    size = 64, 54
    values = np.random.default_rng(0).random((2, *low), np.float32)
    expected = exact.bilinear(values, size)
    scores = ClassScores(values, size)
    np.testing.assert_array_equal(scores.image(), expected)
    best = scores.at(scores.argmax(), full_window(size))
    np.testing.assert_array_equal(best, expected.max(axis=0))
    grid = GridScores(scores, size)
    np.testing.assert_array_equal(grid.own(np.ones(size, np.int32)), expected[1])
