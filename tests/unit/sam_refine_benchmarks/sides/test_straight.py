"""The two sides compute the same: else their times could not be compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_refine_benchmarks.sections import merge, split_regions
from sam_refine_benchmarks.sides import ours, straight

CASES = (
    split_regions.Case(3, 17, 23, 4),
    split_regions.Case(7, 48, 33, 6),
    split_regions.Case(40, 40, 64, 8),
)


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
