import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_refine.contract import FailedRegions, RefineOptions
from sam_refine.merge import (
    RefinedMap,
    keep_coarse_where_empty,
    keep_ignored,
    map_failed_regions,
    map_refinement,
    unrefined_map,
)
from sam_refine.scores import ClassScores
from support import straight

EMPTY_MASKS = np.empty((0, 256, 256), np.float32)
NO_CLASSES = np.empty(0, np.int32)


def box_mask(size, rows, columns, logit=6.0):
    """A low-res mask that is positive in a box of the image, given as fractions of its sides."""
    mask = np.full((256, 256), -6, np.float32)
    height, width = straight.preprocess_shape(*size, 256)
    mask[
        int(rows[0] * height) : int(rows[1] * height),
        int(columns[0] * width) : int(columns[1] * width),
    ] = logit
    return mask


def smooth_masks(count, seed):
    coarse = torch.randn(count, 12, 12, generator=torch.Generator().manual_seed(seed))
    return (straight.bilinear(coarse, (256, 256)) * 10).numpy()


def scores_of(kind, classes, size, seed):
    scores = np.random.default_rng(seed).random((classes, *size), np.float32)
    scores += np.float32(0.001)
    return {
        "positive": scores,
        "zero": np.where(scores < 0.5, 0, scores),
        "negative": -scores,
        "mixed": scores - np.float32(0.5),
    }[kind].astype(np.float32)


@settings(max_examples=40)
@given(
    st.sampled_from(["positive", "zero", "negative", "mixed"]),
    st.integers(1, 4),
    st.integers(0, 5),
    st.tuples(st.integers(1, 33), st.integers(1, 33)),
    st.integers(0, 10_000),
)
def test_map_refinement_equals_the_formula_on_full_size_masks(kind, classes, count, size, seed):
    scores = scores_of(kind, classes, size, seed)
    masks = smooth_masks(count, seed) if count else EMPTY_MASKS
    mask_classes = np.random.default_rng(seed).integers(0, classes, count).astype(np.int32)

    full = straight.postprocess_masks(torch.as_tensor(masks), size) if count else torch.empty(0)
    kept_of = [np.flatnonzero(mask_classes == i).tolist() for i in range(classes)]
    expected = straight.map_refinement(full, kept_of, torch.as_tensor(scores)).numpy()

    refined = map_refinement(masks, mask_classes, ClassScores(scores, size), want_logits=True)
    # A mask logit within rounding of zero may fall on either side of it.
    near_zero = (full.abs() < 1e-4).any(dim=0).numpy() if count else np.zeros(size, bool)
    assert np.abs(refined.logits - expected)[:, ~near_zero].max(initial=0) < 1e-5
    np.testing.assert_array_equal(refined.labels, refined.logits.argmax(axis=0))
    np.testing.assert_array_equal(refined.best, refined.logits.max(axis=0))
    np.testing.assert_array_equal(refined.empty, refined.logits.sum(axis=0) == 0)


@pytest.mark.parametrize("kind", ["positive", "mixed"])
def test_map_refinement_gives_the_same_labels_without_logits(kind):
    size = (40, 31)
    scores = ClassScores(scores_of(kind, 3, size, 5), size)
    masks, classes = smooth_masks(6, 2), np.array([0, 0, 1, 2, 2, 2], np.int32)
    with_logits = map_refinement(masks, classes, scores, want_logits=True)
    labels_only = map_refinement(masks, classes, scores, want_logits=False)
    assert labels_only.logits is None
    np.testing.assert_array_equal(labels_only.labels, with_logits.labels)


def test_map_refinement_gives_ties_to_the_lowest_class():
    size = (16, 16)
    masks = np.stack([box_mask(size, (0, 1), (0, 1))] * 2)
    scores = ClassScores(np.full((3, *size), 0.5, np.float32), size)
    refined = map_refinement(masks, np.array([1, 2], np.int32), scores, want_logits=False)
    assert (refined.labels == 1).all()


def test_map_refinement_of_low_resolution_scores_equals_upsampled_ones():
    size = (48, 64)
    low = np.random.default_rng(3).random((3, 3, 4), np.float32)
    upsampled = straight.bilinear(torch.as_tensor(low), size).numpy()
    masks, classes = smooth_masks(4, 1), np.array([0, 1, 1, 2], np.int32)
    from_low, from_full = (
        map_refinement(masks, classes, ClassScores(values, size), want_logits=True)
        for values in (low, upsampled)
    )
    np.testing.assert_allclose(from_low.logits, from_full.logits, atol=1e-6)
    np.testing.assert_array_equal(from_low.labels, from_full.labels)


def refined_left_half(size, score=0.2):
    """A map of 2 classes where class 1 holds the left half with a refined score."""
    best = np.zeros(size, np.float32)
    best[:, : size[1] // 2] = score
    labels = (best > 0).astype(np.int32)
    return RefinedMap(labels, best, best == 0, np.stack([np.zeros_like(best), best]))


def test_keep_coarse_where_empty_fills_the_rest_with_coarse_labels():
    size = (4, 6)
    coarse = np.full(size, 7, np.int32)
    labels = keep_coarse_where_empty(refined_left_half(size), coarse).labels
    assert (labels[:, :3] == 1).all()
    assert (labels[:, 3:] == 7).all()


@pytest.mark.parametrize(
    ("rule", "coarse_score", "top_left"),
    [
        (FailedRegions.SCORES_ONLY, 0.9, 1),
        (FailedRegions.COMPETE, 0.9, 0),
        (FailedRegions.COMPETE, 0.1, 1),
        (FailedRegions.COMPETE, 0.2, 1),  # a tie
        (FailedRegions.KEEP_COARSE, 0.1, 0),
    ],
)
def test_map_failed_regions_labels_follow_the_rule(rule, coarse_score, top_left):
    size = (4, 6)
    failed = np.zeros(size, bool)
    failed[:2] = True
    values = np.zeros((2, *size), np.float32)
    values[0] = coarse_score
    coarse = np.zeros(size, np.int32)
    refined = map_failed_regions(
        refined_left_half(size),
        failed,
        ClassScores(values, size),
        coarse,
        RefineOptions(failed_regions=rule),
    )
    assert refined.labels[0, 0] == top_left
    assert (refined.labels[2:, :3] == 1).all()
    assert (refined.logits[0, :2] == np.float32(coarse_score)).all()
    assert (refined.logits[0, 2:] == 0).all()


def test_map_failed_regions_leaves_its_argument_alone():
    size = (2, 2)
    refined = refined_left_half(size)
    before = refined.logits.copy()
    map_failed_regions(
        refined,
        np.ones(size, bool),
        ClassScores(np.ones((2, *size), np.float32), size),
        np.zeros(size, np.int32),
        RefineOptions(),
    )
    np.testing.assert_array_equal(refined.logits, before)


def test_keep_ignored_gives_ignored_pixels_their_label_back():
    size = (2, 4)
    coarse = np.array([[255, 0, 0, 0], [0, 0, 0, 255]], np.int32)
    labels = keep_ignored(refined_left_half(size), coarse, RefineOptions(ignore_label=255)).labels
    assert labels.tolist() == [[255, 1, 0, 0], [1, 1, 0, 255]]


def test_unrefined_map_returns_what_came():
    size = (3, 5)
    coarse = np.arange(15, dtype=np.int32).reshape(size)
    scores = ClassScores(np.random.default_rng(0).random((2, 3, 5), np.float32), size)
    unrefined = unrefined_map(coarse, scores, want_logits=True)
    np.testing.assert_array_equal(unrefined.labels, coarse)
    np.testing.assert_array_equal(unrefined.logits, scores.values)


def test_map_refinement_of_scores_that_cancel_is_empty():
    size = (16, 16)
    scores = ClassScores(np.stack([np.full(size, v, np.float32) for v in (0.5, -0.5)]), size)
    masks = np.stack([box_mask(size, (0, 1), (0, 1))] * 2)
    refined = map_refinement(masks, np.array([0, 1], np.int32), scores, want_logits=False)
    assert refined.empty.all()


def test_map_failed_regions_lifts_negative_scores_outside_to_zero():
    size = (2, 2)
    refined = RefinedMap(
        np.zeros(size, np.int32), np.zeros(size, np.float32), np.zeros(size, bool),
        np.full((1, *size), -0.5, np.float32),
    )  # fmt: skip
    failed = np.array([[True, False], [False, False]])
    scores = ClassScores(np.full((1, *size), -0.25, np.float32), size)
    logits = map_failed_regions(
        refined, failed, scores, np.zeros(size, np.int32), RefineOptions()
    ).logits
    assert logits.tolist() == [[[-0.25, 0], [0, 0]]]
