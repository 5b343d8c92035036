import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sam_refine.algorithm.judging import mask_grid
from sam_refine.algorithm.judging.mask_grid import MAX_DEPTH, MaskGrid, depth_of, region_windows
from sam_refine.algorithm.regions import split_regions
from sam_refine.algorithm.scores import ClassScores, coarse_map, grid_size
from sam_refine.contract import RefineOptions
from sam_refine.numerics.arrays import to_numpy
from sam_refine.numerics.resize import resize_nearest
from support import exact
from support.drawings import columns_drawn_in

SIZES = [(64, 96), (300, 200), (1, 7), (480, 640)]


def grid_of(size, library=np.asarray, classes=4, ratio=4):
    values = np.random.default_rng(size[0]).random((classes, 6, 8)).astype(np.float32)
    scores = ClassScores(library(values), size)
    labels, labels_grid, grid_scores = coarse_map(scores, None, grid_size(size, ratio))
    regions = split_regions(labels_grid, grid_scores, RefineOptions(), 10_000)
    return MaskGrid.of(labels, scores, regions), scores, labels, regions


def steps_to_a_border(labels):
    """Of each cell: to the nearest that is beside a cell of another label, one by one."""
    height, width = labels.shape
    sides = ((-1, 0), (1, 0), (0, -1), (0, 1))
    border = [
        (y, x)
        for y, x in np.ndindex(height, width)
        for dy, dx in sides
        if 0 <= y + dy < height and 0 <= x + dx < width and labels[y + dy, x + dx] != labels[y, x]
    ]
    return np.array(
        [
            [
                min([max(abs(y - v), abs(x - u)) + 1 for v, u in border] + [MAX_DEPTH])
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


def test_depth_as_it_is_drawn():
    labels, depth = columns_drawn_in(mask_grid)
    np.testing.assert_array_equal(depth_of(labels.astype(np.int32)), depth.astype(np.float32))


@given(arrays(np.int32, (9, 21), elements=st.sampled_from([0] * 12 + [1])))
@settings(max_examples=30, deadline=None)
def test_depth_counts_steps_to_the_nearest_border(labels):
    np.testing.assert_array_equal(depth_of(labels), steps_to_a_border(labels))


@pytest.mark.parametrize("size", SIZES)
def test_grid_is_the_part_of_sam_s_masks_that_has_the_image(size, library):
    grid, scores, labels, regions = grid_of(size, library)
    assert max(grid.size_hw) == 256
    assert grid.size_hw == tuple(max(1, round(side * 256 / max(size))) for side in size)
    planes = exact.bilinear(to_numpy(scores.values), size, grid.size_hw)
    assert sorted(grid.scores) == sorted(set(regions.classes.tolist()))
    for class_id, plane in grid.scores.items():
        np.testing.assert_allclose(plane, planes[class_id], atol=1e-6)
    ranked = np.sort(planes, axis=0)
    np.testing.assert_allclose(grid.best, ranked[-1], atol=1e-6)
    np.testing.assert_allclose(grid.second, ranked[-2], atol=1e-6)
    np.testing.assert_array_equal(grid.labels, resize_nearest(to_numpy(labels), grid.size_hw))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ratio", [1, 4, 9])
def test_windows_hold_a_region_s_cells_and_no_row_more(size, ratio):
    grid, *_, regions = grid_of(size, ratio=ratio)
    for size_out in (grid.size_hw, size):
        resized = resize_nearest(regions.region_map, size_out)
        for (x_min, y_min, x_max, y_max), window in zip(
            regions.boxes_xyxy_grid, region_windows(regions, size_out), strict=True
        ):
            rows = resize_nearest(np.arange(regions.region_map.shape[0])[:, None], (size_out[0], 1))
            columns = resize_nearest(np.arange(regions.region_map.shape[1])[None], (1, size_out[1]))
            inside = ((rows >= y_min) & (rows <= y_max)).ravel()
            across = ((columns >= x_min) & (columns <= x_max)).ravel()
            assert np.flatnonzero(inside).tolist() == list(range(*window.rows.indices(10**6)))
            assert np.flatnonzero(across).tolist() == list(range(*window.columns.indices(10**6)))
        assert resized.shape == size_out


def test_of_one_class_there_is_no_second():
    grid, *_ = grid_of((64, 96), classes=1)
    assert (grid.second == -np.inf).all()
    assert (grid.depth == MAX_DEPTH).all()
