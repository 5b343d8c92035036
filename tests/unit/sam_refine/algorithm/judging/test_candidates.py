"""Each feature of a mask against its definition, written out on the whole grid."""

import numpy as np
import pytest

from sam_refine.algorithm.judging.candidates import candidates_of
from sam_refine.algorithm.judging.mask_grid import MaskGrid
from sam_refine.algorithm.regions import split_regions
from sam_refine.algorithm.scores import ClassScores, coarse_map, grid_size
from sam_refine.contract import MASK_FEATURES, RefineOptions
from sam_refine.numerics.arrays import Window, full_window
from support import exact


def grid_of(seed, size=(48, 64), ratio=4):
    """Three classes' regions in an image whose masks are (192, 256)."""
    values = np.random.default_rng(seed).random((3, 6, 8)).astype(np.float32)
    scores = ClassScores(values, size)
    labels, labels_grid, grid_scores = coarse_map(scores, None, grid_size(size, ratio))
    regions = split_regions(labels_grid, grid_scores, RefineOptions(), 1000)
    return MaskGrid.of(labels, scores, regions), regions


@pytest.fixture(scope="module", params=[0, 1, 2])
def case(request):
    """A grid, its regions, and four smooth masks of each with their predicted IoUs."""
    grid, regions = grid_of(request.param)
    random = np.random.default_rng(request.param + 10)
    noise = random.normal(size=(len(regions) * 4, 6, 8)) - 0.6
    masks = exact.bilinear(noise.astype(np.float32) * 4, (192, 256))
    ious = random.random((len(regions), 4)).astype(np.float32)
    return grid, regions, masks.reshape(len(regions), 4, 192, 256), ious


def defined(grid, region, class_id, logits, ious, k):
    """Every feature of mask k, by the sentence that `contract.judging` says of it."""
    masks = logits > 0
    mask, inside = masks[k], grid.region_map == region
    own = grid.labels == class_id
    added, removed = mask & ~own, inside & ~mask
    score = grid.scores[class_id]

    def mean(values, where):
        return values[where].mean(dtype=np.float64) if where.any() else np.nan

    def iou(one, other):
        either = (one | other).sum()
        return (one & other).sum() / either if either else 0.0

    agree = masks.mean(axis=0)
    return {
        "predicted_iou": ious[k],
        "rank": sum(other > ious[k] for other in ious),
        "mask": k,
        "class_id": class_id,
        "region_iou": iou(mask, inside),
        "region_recall": (mask & inside).sum() / inside.sum(),
        "region_precision": (mask & inside).sum() / max(1, mask.sum()),
        "own_share": (mask & own).sum() / max(1, mask.sum()),
        "log_region": np.log(inside.sum()),
        "log_mask": np.log(max(1, mask.sum())),
        "log_added": np.log(1 + added.sum()),
        "log_removed": np.log(1 + removed.sum()),
        "added_share": added.sum() / inside.sum(),
        "removed_share": removed.sum() / inside.sum(),
        "score_mask": mean(score, mask),
        "score_region": mean(score, inside),
        "score_added": mean(score, added),
        "score_removed": mean(score, removed),
        "margin_added": mean(grid.best - score, added),
        "best_removed": mean(grid.best, removed),
        "second_removed": mean(grid.second, removed),
        "stability": (logits[k] > 1).sum() / max(1, (logits[k] > -1).sum()),
        "certainty_added": mean(np.abs(logits[k]), added),
        "certainty_removed": mean(np.abs(logits[k]), removed),
        "consensus_added": mean(agree, added),
        "consensus_removed": mean(1 - agree, removed),
        "agreement": np.mean([iou(mask, masks[j]) for j in range(4) if j != k]),
        "depth_added": mean(grid.depth, added),
        "depth_removed": mean(grid.depth, removed),
    }


def test_features_are_what_they_are_said_to_be(case):
    grid, regions, masks, ious = case
    seen = 0
    for region, class_id in enumerate(regions.classes.tolist()):
        found = candidates_of(grid, region, class_id, masks[region], ious[region])
        for k, features in zip(found.masks, found.features, strict=True):
            expected = defined(grid, region, class_id, masks[region], ious[region], k)
            assert list(expected) == list(MASK_FEATURES)
            for name, value in zip(MASK_FEATURES, features, strict=True):
                np.testing.assert_allclose(value, expected[name], atol=2e-4, err_msg=name)
            seen += 1
    assert seen > len(regions)


def test_a_mask_that_changes_nothing_is_no_candidate():
    grid, regions = grid_of(0, size=(192, 256), ratio=1)
    masks = np.full((4, 192, 256), 5, np.float32)
    masks[2][grid.region_map != 0] = -5
    found = candidates_of(grid, 0, int(regions.classes[0]), masks, np.ones(4, np.float32))
    assert found.masks == [0, 1, 3]
    assert len(found.features) == 3


def test_an_empty_mask_takes_the_region_away(case):
    grid, regions, masks, ious = case
    empty = np.full_like(masks[0], -3)
    found = candidates_of(grid, 0, int(regions.classes[0]), empty, ious[0])
    features = dict(zip(MASK_FEATURES, found.features[0], strict=True))
    assert features["region_iou"] == 0
    assert features["removed_share"] == 1
    assert np.isnan(features["score_mask"])
    assert np.isnan(features["score_added"])


def test_a_region_without_a_cell_has_no_candidates(case):
    grid, regions, masks, ious = case
    nowhere = len(regions)
    gone = MaskGrid(**{**vars(grid), "windows": (*grid.windows, Window(slice(3, 3), slice(2, 9)))})
    found = candidates_of(gone, nowhere, 0, masks[0], ious[0])
    assert found.masks == []
    assert found.features.shape == (0, len(MASK_FEATURES))


def test_a_window_is_no_part_of_the_answer(case):
    grid, regions, masks, ious = case
    whole = MaskGrid(**{**vars(grid), "windows": (full_window(grid.size_hw),) * len(regions)})
    for region, class_id in enumerate(regions.classes.tolist()):
        found, expected = (
            candidates_of(each, region, class_id, masks[region], ious[region])
            for each in (grid, whole)
        )
        assert found.masks == expected.masks
        np.testing.assert_allclose(found.features, expected.features, atol=1e-4)
