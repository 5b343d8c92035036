import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_refine.algorithm import regions as regions_module
from sam_refine.algorithm.regions import NO_REGION, split_regions
from sam_refine.algorithm.scores import ClassScores, GridScores, coarse_map, grid_size
from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_benchmarks.sides import straight
from support import exact
from support.drawings import columns_drawn_in

MANY = 10_000


def one_hot_scores(labels, classes, score=1.0):
    """(C, h, w): `score` for the labelled class, 0 for the others."""
    scores = np.zeros((classes, *labels.shape), np.float32)
    for class_id in range(classes):
        scores[class_id][labels == class_id] = score
    return scores


def drawn(*rows):
    return np.array([[int(cell) for cell in row] for row in rows], np.int32)


def split(labels, scores=None, classes=3, max_regions=MANY, library=np.asarray, **options):
    """SplitRegions with scores (C, h_d, w_d) of the grid itself."""
    scores = one_hot_scores(labels, classes) if scores is None else scores
    grid_scores = GridScores(ClassScores(library(scores), labels.shape), labels.shape)
    return split_regions(labels, grid_scores, RefineOptions(**options), max_regions)


def test_split_orders_by_class_then_by_first_cell():
    labels, expected, without_small = columns_drawn_in(regions_module)
    labels = labels.astype(np.int32)
    regions = split(labels)
    assert regions.classes.tolist() == [0, 1, 1, 1, 2, 2]
    assert regions.boxes_xyxy_grid.tolist() == [
        [0, 0, 7, 7],
        [3, 0, 5, 1],
        [5, 3, 6, 4],
        [0, 7, 1, 7],
        [0, 2, 0, 4],
        [3, 6, 5, 6],
    ]
    np.testing.assert_array_equal(regions.region_map.astype(str), expected)
    left = split(labels, min_region_area=4).region_map
    np.testing.assert_array_equal(np.where(left == NO_REGION, ".", left.astype(str)), without_small)


def test_split_joins_cells_that_touch_at_a_corner():
    regions = split(drawn("1000", "0100", "0010", "0001"), classes=2)
    assert regions.classes.tolist() == [0, 1]  # the zeros, too, meet across the diagonal
    assert regions.boxes_xyxy_grid[1].tolist() == [0, 0, 3, 3]


def test_split_takes_the_first_of_equally_high_points():
    labels = drawn("000", "000")
    scores = np.zeros((1, 2, 3), np.float32)
    scores[0, 0, 2] = scores[0, 1, 0] = 0.9
    assert split(labels, scores).points_xy_grid.tolist() == [[2, 0]]


def test_split_scores_a_region_by_the_mean_of_its_class():
    labels = drawn("01", "01")
    scores = np.array([[[0.2, 0], [0.6, 0]], [[0, 0.5], [0, 1.0]]], np.float32)
    np.testing.assert_allclose(split(labels, scores).scores, [0.4, 0.75])


def test_split_drops_components_below_the_minimum_area():
    labels = drawn("0000", "0110", "0000", "0001")
    regions = split(labels, classes=2, min_region_area=2)
    assert regions.classes.tolist() == [0, 1]
    assert regions.region_map[3, 3] == NO_REGION
    assert regions.dropped == 1
    assert split(labels, classes=2, min_region_area=0).dropped == 0
    assert split(labels, classes=2, min_region_area=100).dropped == 3


def test_split_counts_no_rejected_or_ignored_cell_as_dropped():
    labels = drawn("0011", "0022")
    scores = one_hot_scores(labels, 3)
    scores[2] = 0.2 * scores[2]
    left = split(labels, scores, confidence_threshold=0.5, ignore_label=0, min_region_area=3)
    assert (len(left), left.dropped) == (0, 1)


def test_split_rejects_cells_below_the_confidence_threshold():
    labels = drawn("0000", "0000")
    scores = np.full((1, 2, 4), 0.9, np.float32)
    scores[0, :, 2] = 0.1
    regions = split(labels, scores, confidence_threshold=0.5)
    assert regions.boxes_xyxy_grid.tolist() == [[0, 0, 1, 1], [3, 0, 3, 1]]
    assert split(labels, scores).boxes_xyxy_grid.tolist() == [[0, 0, 3, 1]]


def test_split_leaves_out_classes_whose_best_score_is_below_the_threshold():
    labels = drawn("01", "01")
    scores = np.stack([np.full((2, 2), 0.4, np.float32), np.full((2, 2), 0.5, np.float32)])
    assert split(labels, scores, confidence_threshold=0.45).classes.tolist() == [1]


def test_split_at_a_threshold_of_zero_takes_classes_of_negative_scores_too():
    labels = drawn("01", "01")
    scores = np.stack([np.full((2, 2), -0.5, np.float32), np.full((2, 2), 0.5, np.float32)])
    regions = split(labels, scores)
    assert regions.classes.tolist() == [0, 1]
    assert regions.scores.tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("ignore_label", [1, 255, -1])
def test_split_never_splits_the_ignored_label(ignore_label):
    labels = drawn("0000", "0110", "0110")
    labels[labels == 1] = ignore_label
    regions = split(labels, one_hot_scores(labels, 2), ignore_label=ignore_label)
    assert regions.classes.tolist() == [0]
    assert (regions.region_map[labels == ignore_label] == NO_REGION).all()


def test_split_finds_nothing_where_everything_is_rejected():
    regions = split(drawn("01", "10"), np.full((2, 2, 2), 0.1, np.float32),
                    confidence_threshold=0.5)  # fmt: skip
    assert len(regions) == 0
    assert regions.boxes_xyxy_grid.shape == (0, 4)
    assert regions.points_xy_grid.shape == (0, 2)
    assert (regions.region_map == NO_REGION).all()


def test_split_of_one_cell_finds_it():
    regions = split(drawn("0"), classes=1)
    assert (regions.boxes_xyxy_grid.tolist(), regions.points_xy_grid.tolist()) == (
        [[0, 0, 0, 0]],
        [[0, 0]],
    )


def test_split_refuses_too_many_regions():
    labels = drawn("0202", "0202")
    with pytest.raises(InvalidRequestError, match="has 4 regions, at most 3 are accepted"):
        split(labels, max_regions=3)
    assert len(split(labels, max_regions=4)) == 4


def test_mask_grid_is_the_union_of_the_chosen_regions():
    labels = drawn("0011", "0022")
    mask = split(labels).mask_grid(np.array([True, False, True]))
    assert mask.tolist() == [[True, True, False, False], [True, True, True, True]]


def assert_equal_to_flood_fill(regions, labels, scores, options):
    """`scores` (C, h_d, w_d) are all of L_d."""
    split = straight.split_regions(
        torch.as_tensor(labels).long(), torch.as_tensor(scores), options, exact.EXACT
    )
    assert regions.classes.tolist() == [each.class_id for each in split for _ in range(len(each))]
    assert regions.boxes_xyxy_grid.tolist() == [
        box for each in split for box in each.boxes_xyxy.tolist()
    ]
    assert regions.points_xy_grid.tolist() == [
        point for each in split for point in each.points_xy.tolist()
    ]
    expected_scores = [score for each in split for score in each.scores.tolist()]
    np.testing.assert_allclose(regions.scores, expected_scores, atol=1e-6)
    for index, mask in enumerate(mask for each in split for mask in each.masks):
        np.testing.assert_array_equal(regions.region_map == index, mask.numpy())


@settings(max_examples=100)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.4]),
    st.integers(0, 4),
    st.integers(0, 2**32 - 1),
)
def test_split_equals_flood_fill(height, width, classes, tau_c, min_area, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, (height, width)).astype(np.int32)
    scores = random.choice(np.linspace(-0.2, 1, 7), (classes, height, width)).astype(np.float32)
    options = RefineOptions(confidence_threshold=tau_c, min_region_area=min_area)
    regions = split(labels, scores, confidence_threshold=tau_c, min_region_area=min_area)
    assert_equal_to_flood_fill(regions, labels, scores, options)


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.35, 0.5]),
    st.sampled_from(["argmax", "given"]),
    st.sampled_from([0.0, -0.4]),
    st.integers(0, 2**32 - 1),
)
def test_split_of_low_resolution_scores_equals_flood_fill_on_the_whole_of_l_d(
    library, low, larger, ratio, tau_c, labels, shift, seed
):
    random = np.random.default_rng(seed)
    size = low[0] + larger[0], low[1] + larger[1]
    values = (random.dirichlet(np.ones(4), low) + shift).astype(np.float32)
    values = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    given_labels = None
    if labels == "given":
        given_labels = random.integers(0, 4, size).astype(np.int32)
    scores = ClassScores(library(values), size)
    size_grid = grid_size(size, ratio)
    given_in_library = None if given_labels is None else library(given_labels)
    _, labels_grid, grid_scores = coarse_map(scores, given_in_library, size_grid)
    options = RefineOptions(confidence_threshold=tau_c)
    regions = split_regions(labels_grid, grid_scores, options, MANY)

    image = exact.bilinear(values, size)
    expected_labels = image.argmax(axis=0) if given_labels is None else given_labels
    nearest = straight.nearest(torch.as_tensor(expected_labels), size_grid).numpy()
    np.testing.assert_array_equal(labels_grid, nearest)
    expected_scores = exact.bilinear(image, size_grid)
    assert_equal_to_flood_fill(regions, labels_grid, expected_scores, options)


def test_split_compares_with_the_threshold_in_single_precision():
    scores = np.full((1, 1, 2), np.float32(0.7))  # below 0.7 in double precision
    regions = split(drawn("00"), scores, confidence_threshold=0.7)
    assert len(regions) == 1
