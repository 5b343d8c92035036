import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sam_refine.resize import (
    Window,
    bilinear_matrix,
    resize_bilinear,
    resize_nearest,
)
from support import straight

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
        straight.bilinear(planes, (height, width)), expected, atol=1e-5, rtol=0
    )


@given(SIDES, SIDES, SIDES, SIDES, st.data())
def test_bilinear_window_equals_part_of_the_whole(h, w, height, width, data):
    plane = np.random.default_rng(h).random((h, w), np.float32)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(
        slice(top, data.draw(st.integers(top + 1, height))),
        slice(left, data.draw(st.integers(left + 1, width))),
    )
    part = resize_bilinear(plane, (height, width), window)
    assert part.shape == window.size_hw
    np.testing.assert_array_equal(part, resize_bilinear(plane, (height, width))[window])


@given(SIDES, SIDES)
def test_bilinear_matrix_equals_resize(size_out, size_in):
    column = np.random.default_rng(size_in).random((size_in, 1), np.float32)
    np.testing.assert_allclose(
        bilinear_matrix(size_out, size_in) @ column,
        resize_bilinear(column, (size_out, 1)),
        atol=1e-6,
    )


def test_bilinear_of_a_plateau_stays_exactly_flat():
    plane = np.full((7, 5), 0.1, np.float32)
    assert np.unique(resize_bilinear(plane, (33, 41))).tolist() == [np.float32(0.1)]


def test_bilinear_same_size_returns_the_values():
    plane = np.random.default_rng(0).random((6, 9), np.float32)
    np.testing.assert_array_equal(resize_bilinear(plane, (6, 9)), plane)


def test_bilinear_leaves_its_argument_alone():
    plane = np.arange(12, dtype=np.float32).reshape(3, 4)
    before = plane.copy()
    resize_bilinear(plane, (9, 8))
    np.testing.assert_array_equal(plane, before)


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.uint8, np.float32])
def test_nearest_takes_the_floored_source_cell(dtype):
    plane = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    assert resize_nearest(plane, (4, 2)).tolist() == [
        [plane[0, 0], plane[0, 1]],
        [plane[0, 0], plane[0, 1]],
        [plane[1, 0], plane[1, 1]],
        [plane[1, 0], plane[1, 1]],
    ]
    assert resize_nearest(plane, (4, 2)).dtype == dtype
