from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sam_refine.numerics.arrays import Window, to_numpy
from sam_refine.numerics.resize import (
    LinearAxis,
    bilinear_sources,
    gather_bilinear,
    resize_bilinear,
    resize_nearest,
)
from support import exact

SIDES = st.integers(1, 40)


@given(SIDES, SIDES, SIDES, SIDES)
def test_bilinear_any_sizes_equals_interpolate(h, w, height, width):
    plane = np.random.default_rng(h * w).normal(size=(h, w)).astype(np.float32)
    expected = F.interpolate(
        torch.as_tensor(plane)[None, None], (height, width), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(resize_bilinear(plane, (height, width)), expected, atol=1e-5)


@given(SIDES, SIDES, SIDES, SIDES)
def test_bilinear_of_the_oracle_equals_interpolate(h, w, height, width):
    planes = torch.randn(2, h, w, generator=torch.Generator().manual_seed(h))
    expected = F.interpolate(planes[None], (height, width), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(
        exact.interpolate(planes, (height, width)), expected, atol=1e-5, rtol=0
    )


def some_window(data, size):
    """Any window of a map that is not empty."""
    starts = [data.draw(st.integers(0, side - 1)) for side in size]
    return Window(
        *(
            slice(start, data.draw(st.integers(start + 1, side)))
            for start, side in zip(starts, size, strict=True)
        )
    )


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([np.float16, np.float32]), st.data())
def test_bilinear_window_equals_part_of_the_whole(library, h, w, height, width, dtype, data):
    plane = np.random.default_rng(h).random((h, w)).astype(dtype)
    window = some_window(data, (height, width))
    part = to_numpy(resize_bilinear(library(plane), (height, width), window))
    assert part.shape == window.size_hw
    assert part.dtype == np.float32
    expected = exact.bilinear(plane[None], (height, width))[0]
    np.testing.assert_array_equal(part, expected[window])


@settings(max_examples=60)
@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4), st.integers(0, 1000))
def test_gather_equals_resizes_in_a_row(library, sizes, seed):
    random = np.random.default_rng(seed)
    planes = random.normal(size=(3, *sizes[0])).astype(random.choice([np.float16, np.float32]))
    height, width = sizes[-1]
    which = random.integers(0, 3, (height, width))
    expected = np.choose(which, exact.bilinear(planes, *sizes[1:]))

    rows, columns = np.arange(height), np.arange(width)
    indices = (library(index) for index in (which, rows[:, None], columns))
    gathered = to_numpy(gather_bilinear(library(planes), *indices, *sizes[1:]))
    np.testing.assert_array_equal(gathered, expected)
    places = tuple(random.integers(0, side, 5) for side in (height, width))
    indices = (library(index) for index in (which[places], *places))
    gathered = to_numpy(gather_bilinear(library(planes), *indices, *sizes[1:]))
    np.testing.assert_array_equal(gathered, expected[places])
    indices = (library(index) for index in places)
    gathered = to_numpy(gather_bilinear(library(planes), None, *indices, *sizes[1:]))
    everywhere = exact.bilinear(planes, *sizes[1:])
    np.testing.assert_array_equal(gathered, everywhere[(slice(None), *places)])


@given(st.lists(SIDES, min_size=2, max_size=4))
def test_linear_axis_equals_resizes_in_a_row(sizes):
    column = expected = np.random.default_rng(len(sizes)).random((sizes[0], 1), np.float32)
    for size in sizes[1:]:
        expected = resize_bilinear(expected, (size, 1))
    axis = LinearAxis.of(*pairwise(sizes))
    np.testing.assert_allclose(axis.matrix @ column, expected, atol=1e-6)
    parts = [matrix @ column[reads] for matrix, reads in axis.parts(7)]
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)


@given(SIDES, SIDES, SIDES)
def test_linear_axis_reads_from_its_first_to_its_last_input_only(size_in, between, size_out):
    axis = LinearAxis.of((size_in, between), (between, size_out))
    inputs = np.arange(size_in)
    reads = (inputs >= axis.first[:, None]) & (inputs <= axis.last[:, None])
    assert not axis.matrix[~reads].any()


def test_bilinear_sources_after_a_crop_lie_in_what_is_left():
    sources, weights = bilinear_sources((10, 40), (20, 5))  # of 40 only the first 20 are read
    assert sources.max() == 5
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)


def test_bilinear_of_a_plateau_stays_exactly_flat():
    plane = np.full((7, 5), 0.1, np.float32)
    assert np.unique(resize_bilinear(plane, (33, 41))).tolist() == [np.float32(0.1)]


def test_bilinear_same_size_returns_the_values():
    plane = np.random.default_rng(0).random((6, 9), np.float32)
    np.testing.assert_array_equal(resize_bilinear(plane, (6, 9)), plane)


def test_bilinear_leaves_its_argument_alone(library):
    plane = library(np.arange(12, dtype=np.float32).reshape(3, 4))
    for size in [(9, 8), (3, 8), (9, 4), (2, 2)]:
        resize_bilinear(plane, size)
    assert to_numpy(plane).tolist() == np.arange(12).reshape(3, 4).tolist()


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.uint8, np.float32])
def test_nearest_takes_the_floored_source_cell(library, dtype):
    plane = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    resized = to_numpy(resize_nearest(library(plane), (4, 2)))
    assert resized.tolist() == [
        [plane[0, 0], plane[0, 1]],
        [plane[0, 0], plane[0, 1]],
        [plane[1, 0], plane[1, 1]],
        [plane[1, 0], plane[1, 1]],
    ]
    assert resized.dtype == dtype
