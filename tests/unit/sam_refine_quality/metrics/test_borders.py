"""Pixels near borders, against the definitions read pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from sam_refine_quality.metrics.borders import (
    border_pixels,
    boundary,
    boundary_distance_px,
    near_border,
)
from support import quality

SIZES = [(1, 1), (1, 9), (9, 1), (8, 8), (13, 21)]


def blocks(height, width, seed=0):
    """A map whose labels come in blocks of 4, so that some pixels are far from any border."""
    small = np.random.default_rng(seed).integers(0, 3, (height // 4 + 1, width // 4 + 1))
    return np.kron(small, np.ones((4, 4), np.int64))[:height, :width].astype(np.int32)


def test_border_of_a_drawn_map():
    labels = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    assert border_pixels(labels).tolist() == [
        [False, False, True, True],
        [False, True, True, True],
        [False, True, True, False],
    ]


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("distance_px", [0, 1, 3])
def test_near_border_is_the_distance_to_the_closest_border_pixel(size_hw, distance_px):
    labels = blocks(*size_hw)
    found = near_border(labels, distance_px)
    for at in quality.pixels(labels):
        assert found[at] == quality.is_near_border(labels, at, distance_px)


def test_near_border_of_a_map_of_one_label_is_nowhere():
    assert not near_border(np.full((5, 7), 3), 3).any()


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("distance_px", [1, 2, 3])
def test_boundary_is_what_erosion_takes_from_each_mask(size_hw, distance_px):
    labels = blocks(*size_hw, seed=1)
    found = boundary(labels, distance_px)
    expected = np.zeros(labels.shape, np.bool_)
    for label in range(3):
        for at in quality.boundary((labels == label).tolist(), distance_px):
            expected[at] = True
    np.testing.assert_array_equal(found, expected)
    if size_hw == (13, 21) and distance_px == 1:
        assert not found.all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_boundary_takes_the_largest_label_of_a_dtype(dtype):
    labels = np.full((5, 5), np.iinfo(dtype).max, dtype)
    assert np.count_nonzero(~boundary(labels, 1)) == 9


@pytest.mark.parametrize(
    ("size_hw", "distance_px"), [((3, 4), 1), ((300, 400), 10), ((360, 480), 12)]
)
def test_boundary_distance_is_two_percent_of_the_diagonal(size_hw, distance_px):
    assert boundary_distance_px(size_hw, 0.02) == distance_px
