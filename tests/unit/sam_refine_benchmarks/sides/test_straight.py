"""The straight algorithm: by drawings, and as the other side of times that are compared.

With the parts that the benchmarks take and with those that the tests take: one algorithm.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_refine.algorithm import merge as merge_module
from sam_refine.algorithm import regions as regions_module
from sam_refine.contract import FailedRegions, MaskPrompt, RefineOptions
from sam_refine_benchmarks.sections import merge, split_regions
from sam_refine_benchmarks.sides import ours, straight
from support import exact
from support.drawings import columns_drawn_in

each_parts = pytest.mark.parametrize(
    "parts", [straight.LIBRARY, exact.EXACT], ids=["library", "exact"]
)

CASES = (
    split_regions.Case(3, 17, 23, 4),
    split_regions.Case(7, 48, 33, 6),
    split_regions.Case(40, 40, 64, 8),
)


def drawn(*rows):
    return np.array([[int(cell) for cell in row] for row in rows], np.uint8)


@each_parts
def test_components_touch_at_corners_and_may_be_one_pixel_or_nested(parts):
    one_class = drawn("1100101", "0010000", "0000111", "1000101", "1000111")
    components = parts.components(one_class)
    sizes = np.bincount(components.ravel())
    assert sorted(sizes[1:]) == [1, 1, 2, 3, 8]
    assert ((components > 0) == (one_class > 0)).all()
    assert components[0, 0] == components[1, 2]
    assert len({components[0, 4], components[0, 6], components[2, 4], components[4, 0]}) == 4


@each_parts
@pytest.mark.parametrize("width", [31, 32, 33])
def test_components_are_those_of_flood_fill_at_odd_widths_too(parts, width):
    one_class = np.random.default_rng(width).integers(0, 2, (19, width), np.uint8)
    components, expected = parts.components(one_class), exact.flood_fill(one_class)
    pairs = set(zip(components.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(expected)) == len(np.unique(components))


@each_parts
def test_bilinear_of_the_parts_weighs_neighbours_by_their_distance(parts):
    (row,) = parts.bilinear(torch.tensor([[[0.0, 4.0]]]), (1, 4))[0]
    assert row.tolist() == [0, 1, 3, 4]


@each_parts
def test_split_regions_is_as_drawn(parts):
    labels, expected, without_small = columns_drawn_in(regions_module)
    labels_grid = torch.from_numpy(labels.astype(np.int64))
    scores = (labels_grid == torch.arange(3)[:, None, None]).float()
    for least, drawing in ((0, expected), (4, without_small)):
        split = straight.split_regions(
            labels_grid, scores, RefineOptions(min_region_area=least), parts
        )
        masks = {
            (each.class_id, *box): mask.numpy()
            for each in split
            for box, mask in zip(each.boxes_xyxy.tolist(), each.masks, strict=True)
        }
        numbers = sorted(set(drawing.ravel()) - {"."})
        assert len(masks) == len(numbers)
        for number in numbers:
            rows, columns = np.nonzero(drawing == number)
            class_id = int(labels[rows[0], columns[0]])
            box = columns.min(), rows.min(), columns.max(), rows.max()
            np.testing.assert_array_equal(masks[(class_id, *box)], drawing == number)


def test_split_regions_rejects_cells_below_the_threshold_and_the_ignored_class():
    labels = torch.tensor([[0, 0, 1, 1, 255]])
    scores = torch.tensor([[[0.9, 0.2, 0.1, 0.1, 0.9]], [[0.1, 0.2, 0.8, 0.9, 0.1]]])
    options = RefineOptions(confidence_threshold=0.5)
    first, second = straight.split_regions(labels, scores, options)
    assert first.boxes_xyxy.tolist() == [[0, 0, 0, 0]]
    assert (second.boxes_xyxy.tolist(), second.points_xy.tolist()) == ([[2, 0, 3, 0]], [[3, 0]])
    options = RefineOptions(ignore_label=1)
    assert [each.class_id for each in straight.split_regions(labels, scores, options)] == [0]


def test_merge_steps_are_as_drawn():
    coarse, mask, failed, refined, fallen_back, kept_coarse = columns_drawn_in(merge_module)
    labels_image = torch.from_numpy(coarse.astype(np.int64))
    scores = 0.5 + 0.25 * (labels_image == torch.arange(3)[:, None, None]).float()
    masks = torch.where(torch.from_numpy(mask == "#"), 6.0, -6.0)[None]
    logits = straight.map_refinement(masks, torch.tensor([1]), scores)
    assert ((logits[1] > 0).numpy() == (refined == "1")).all()
    assert (logits[[0, 2]] == 0).all()
    labels = straight.fall_back(logits, labels_image)
    assert (labels.numpy() == fallen_back.astype(np.int64)).all()
    on_failed = torch.from_numpy(failed == "x")
    for rule, expected in (
        (FailedRegions.KEEP_COARSE, kept_coarse),
        (FailedRegions.SCORES_ONLY, fallen_back),
    ):
        options = RefineOptions(failed_regions=rule)
        lifted = straight.failed_labels(labels, logits, on_failed, scores, labels_image, options)
        assert (lifted.numpy() == expected.astype(np.int64)).all()


def test_as_input_of_each_mode_is_none_a_batch_of_one_or_without_its_batch():
    mask = torch.zeros(256, 256)
    assert straight.as_input(mask, MaskPrompt.NONE) is None
    shapes = {mode: straight.as_input(mask, mode).shape for mode in list(MaskPrompt)[1:]}
    assert shapes == {
        mode: (1, 1, 256, 256) if mode is MaskPrompt.SAM else (1, 256, 256) for mode in shapes
    }
    assert len(shapes) == 2


def test_merge_without_kept_regions_leaves_the_map_as_it_came():
    labels, scores = torch.tensor([[0, 1]]), torch.rand(2, 1, 2)
    merged = straight.merge([], [], [], scores, labels, RefineOptions())
    assert merged.labels is labels
    assert merged.logits is scores


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.size)
def test_split_regions_straight_equals_ours(case):
    labels, scores = case.maps()
    regions = ours.split(labels, scores, split_regions.OPTIONS)
    split = straight.split_regions(
        torch.from_numpy(labels).long(), torch.from_numpy(scores), split_regions.OPTIONS
    )
    classes = [each.class_id for each in split for _ in range(len(each))]
    assert len(regions) > 3
    assert sorted(classes) == regions.classes.tolist()
    for class_id in np.unique(regions.classes):
        chosen = regions.classes == class_id
        (same,) = [each for each in split if each.class_id == class_id]
        for name, expected in (
            ("boxes_xyxy", regions.boxes_xyxy_grid[chosen]),
            ("points_xy", regions.points_xy_grid[chosen]),
        ):
            actual = sorted(map(tuple, getattr(same, name).tolist()))
            assert actual == sorted(map(tuple, expected.tolist()))
        np.testing.assert_allclose(
            sorted(same.scores.tolist()), sorted(regions.scores[chosen]), atol=1e-6
        )


@pytest.mark.parametrize("most_regions", [None, 5])
def test_merge_straight_equals_ours(most_regions):
    problem = merge.Problem(merge.Case(8, 60, 81, 12, most_regions=most_regions))
    kept = problem.decoded.kept
    assert kept.any()
    assert not kept.all()
    expected = problem.merge_straight()()
    refined = ours.merge(
        problem.decoded, problem.scores, problem.labels, merge.OPTIONS, want_logits=True
    )
    assert np.mean(refined.labels == expected.labels.numpy()) > 0.999
    off = np.abs(refined.logits - expected.logits.numpy()).max(axis=0) > 1e-4
    assert off.mean() < 0.001  # where a mask's logit is within rounding of zero


def test_merge_curve_keeps_no_more_regions_than_asked_for():
    problem = merge.Problem(merge.Case(8, 60, 81, 12, most_regions=5))
    assert problem.decoded.kept.sum() <= 5
