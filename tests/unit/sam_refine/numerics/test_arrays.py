import numpy as np
import pytest
import torch

from sam_refine.numerics.arrays import (
    Window,
    bands,
    full_window,
    take,
    tiles,
    to_float32,
    to_like,
    to_numpy,
)


def test_to_float32_of_every_half_equals_the_conversion_value_by_value():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    expected = halves.astype(np.float32)
    np.testing.assert_array_equal(to_float32(halves).view(np.uint32), expected.view(np.uint32))


def test_to_float32_of_a_part_of_an_array_leaves_it_alone(library):
    halves = np.arange(24, dtype=np.float16).reshape(4, 6)
    part = library(halves)[1:3, 1:5]
    assert to_numpy(to_float32(part)).tolist() == [[7, 8, 9, 10], [13, 14, 15, 16]]
    assert to_numpy(part).dtype == np.float16
    assert to_numpy(part)[0, 0] == 7


def test_to_float32_of_float32_is_the_same_array():
    array = np.zeros(3, np.float32)
    assert to_float32(array) is array


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (257, 1), (300, 700)])
def test_tiles_on_a_cpu_cover_each_pixel_once(size):
    covered = np.zeros(size, int)
    for tile in tiles(size, torch.empty(0)):
        covered[tile] += 1
        assert max(tile.size_hw) <= 256
    assert (covered == 1).all()


@pytest.mark.parametrize("size", [(1, 1), (300, 700), (1000, 1000), (2, 300_000)])
def test_bands_on_a_cpu_are_as_wide_as_the_map_and_cover_it_once(size):
    covered = np.zeros(size[0], int)
    for rows, columns in bands(size, torch.empty(0)):
        covered[rows] += 1
        assert columns == slice(0, size[1])
        assert rows.stop - rows.start == 1 or (rows.stop - rows.start) * size[1] <= 2**18
    assert (covered == 1).all()


@pytest.mark.parametrize("parts", [tiles, bands])
def test_parts_elsewhere_are_the_whole_map(parts):
    assert list(parts((300, 700), torch.empty(0, device="meta"))) == [full_window((300, 700))]


def test_window_inside_counts_from_the_outer_corner():
    outer = Window(slice(10, 20), slice(5, 30))
    inside = Window(slice(12, 15), slice(5, 6)).inside(outer)
    assert inside == Window(slice(2, 5), slice(0, 1))
    assert inside.size_hw == (3, 1)


def test_beside_and_take_stay_in_the_library(library):
    array = library(np.arange(12, dtype=np.float32).reshape(3, 4))
    assert type(to_like(np.ones(2), array)) is type(array)
    taken = take(array, np.array([2, 0]), 1)
    assert type(taken) is type(array)
    assert to_numpy(taken).tolist() == [[2, 0], [6, 4], [10, 8]]
    assert to_numpy(take(array, to_like(np.array([1]), array), 0)).tolist() == [[4, 5, 6, 7]]
