import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_refine.algorithm import merge
from sam_refine.algorithm.merge import (
    FailedArea,
    KeptMasks,
    RefinedMap,
    RefinedTile,
    fall_back,
    keep_ignored,
    map_failed_regions,
    map_refinement,
    unrefined_map,
)
from sam_refine.algorithm.scores import ClassScores, grid_size
from sam_refine.contract import FailedRegions, RefineOptions
from sam_refine.numerics import arrays
from sam_refine.numerics.arrays import Window, full_window, tiles, to_numpy
from sam_refine_benchmarks.sides import straight
from support import exact
from support.drawings import columns_drawn_in

KINDS = ["positive", "zero", "negative", "mixed", "ties"]
EMPTY_MASKS = np.empty((0, 256, 256), np.float32)


def box_mask(size, rows, columns, logit=6.0):
    """A low-res mask that is positive in a box of the image, given as fractions of its sides."""
    mask = np.full((256, 256), -6, np.float32)
    height, width = straight.preprocess_shape(*size, 256)
    mask[
        int(rows[0] * height) : int(rows[1] * height),
        int(columns[0] * width) : int(columns[1] * width),
    ] = logit
    return mask


def masks_of(count, seed):
    """Smooth masks, some of them empty, of one cell, or the same as the one before."""
    coarse = torch.randn(count, 12, 12, generator=torch.Generator().manual_seed(seed))
    masks = (exact.interpolate(coarse, (256, 256)) * 10).numpy()
    for index, kind in enumerate(np.random.default_rng(seed).integers(0, 6, count)):
        if kind == 0:
            masks[index] = -1
        elif kind == 1:
            masks[index] = -4
            masks[index, 3 * index % 7, 5 * index % 11] = 9
        elif kind == 2 and index:
            masks[index] = masks[index - 1]
    return masks


def scores_of(kind, classes, size, seed):
    scores = np.random.default_rng(seed).random((classes, *size), np.float32)
    scores += np.float32(0.001)
    return {
        "positive": scores,
        "zero": np.where(scores < 0.5, 0, scores),
        "negative": -scores,
        "mixed": scores - np.float32(0.5),
        "ties": np.round(scores * 2) / 2,
    }[kind].astype(np.float32)


def merge_maps(masks, classes, failed_grid, scores, coarse, options, *, want_logits):
    """The steps from the decoder on, in the order of `pipeline.refine`."""
    kept = KeptMasks.of(masks, classes, scores.size_image)
    failed = FailedArea.of(failed_grid, scores, options)
    refined_map = RefinedMap.blank(scores, failed, want_logits=want_logits)
    for tile in tiles(scores.size_image, scores.values):
        refined = map_refinement(kept, scores, tile, want_scores=want_logits)
        refined = fall_back(refined, coarse[tile])
        refined = map_failed_regions(refined, coarse[tile], failed, scores, options)
        refined_map.put(keep_ignored(refined, coarse[tile], options))
    return refined_map


def merge_straight(masks, classes, failed_grid, values, coarse, size, options):
    """The steps from the decoder on, on full-size masks, by the formulas.

    Returns labels, logits and where rounding decides: where the logit of a mask is near zero, or
    two scores that are compared are near each other.
    """
    scores = exact.interpolate(torch.as_tensor(values, dtype=torch.float32), size)
    coarse = torch.as_tensor(coarse)
    full = torch.empty(0, *size)
    if len(masks):
        full = straight.postprocess_masks(torch.as_tensor(masks), size, exact.EXACT)
    logits = refined = straight.map_refinement(full, torch.as_tensor(classes), scores)
    labels = straight.fall_back(refined, coarse)
    if failed_grid is not None:
        failed = straight.nearest(torch.as_tensor(failed_grid), size)
        labels = straight.failed_labels(labels, refined, failed, scores, coarse, options)
        logits = torch.maximum(refined, failed * scores)
    labels = straight.keep_ignored(labels, coarse, options)
    best = refined.max(dim=0).values
    unsure = (full.abs() < 1e-4).any(dim=0) | ((scores.max(dim=0).values - best).abs() < 1e-5)
    if len(refined) > 1:
        first, second = refined.topk(2, dim=0).values
        unsure |= first - second < 1e-5
    return labels.numpy(), logits.numpy(), unsure.numpy()


@st.composite
def merges(draw):
    """Everything that `merge_maps` takes, as numpy arrays."""
    kind, classes = draw(st.sampled_from(KINDS)), draw(st.integers(1, 4))
    count, seed = draw(st.integers(0, 4)), draw(st.integers(0, 10_000))
    size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    low = tuple(max(1, side // draw(st.sampled_from([1, 1, 3, 8]))) for side in size)
    random = np.random.default_rng(seed)
    values = scores_of(kind, classes, low, seed).astype(draw(st.sampled_from(["f2", "f4"])))
    mask_classes = np.sort(random.integers(0, classes, count)).astype(np.int32)
    coarse = random.integers(0, classes + 1, size).astype(np.int32)
    failed_grid = random.random(grid_size(size, 2)) < random.choice([0, 0.2, 0.9])
    options = RefineOptions(
        failed_regions=draw(st.sampled_from(list(FailedRegions))),
        ignore_label=draw(st.sampled_from([None, classes])),
    )
    masks = masks_of(count, seed) if count else EMPTY_MASKS
    return (
        masks,
        mask_classes,
        draw(st.sampled_from([None, failed_grid])),
        values,
        coarse,
        size,
        options,
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(merges(), st.sampled_from([(256, 256), (7, 11)]))
def test_merge_equals_the_formulas_on_full_size_masks(library, drawn, tile):
    masks, classes, failed_grid, values, coarse, size, options = drawn
    expected_labels, expected_logits, unsure = merge_straight(*drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "TILE_HW", tile)
        patch.setattr(arrays, "BAND", math.prod(tile))
        refined, labels_only = (
            merge_maps(
                library(masks),
                classes,
                failed_grid,
                ClassScores(library(values), size),
                library(coarse),
                options,
                want_logits=want_logits,
            )
            for want_logits in (True, False)
        )
    logits, labels = to_numpy(refined.logits), to_numpy(refined.labels)
    assert (logits.dtype, labels.dtype) == (np.float32, np.int32)
    assert np.abs(logits - expected_logits)[:, ~unsure].max(initial=0) < 1e-5
    np.testing.assert_array_equal(labels[~unsure], expected_labels[~unsure])
    assert labels_only.logits is None
    np.testing.assert_array_equal(to_numpy(labels_only.labels), labels)
    if failed_grid is None and options.ignore_label is None:  # ties, too, by the written rule
        empty = logits.sum(axis=0) == 0
        by_rule = np.where(empty, coarse, logits.argmax(axis=0))
        np.testing.assert_array_equal(labels, by_rule)


def refine_all(masks, classes, scores, library=np.asarray):
    """MapRefinement of the whole map as one tile: the tile and L'."""
    scores = ClassScores(library(scores), scores.shape[1:])
    kept = KeptMasks.of(library(masks), np.asarray(classes, np.int32), scores.size_image)
    refined = map_refinement(kept, scores, full_window(scores.size_image), want_scores=True)
    refined_map = RefinedMap.blank(scores, FailedArea(None, None), want_logits=True)
    refined_map.put(refined)
    return refined, to_numpy(refined_map.logits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_map_refinement_knows_the_best_and_where_there_is_none(library, kind, count):
    scores = scores_of(kind, 3, (40, 31), 5)
    classes = [0, 2, 2, 2, 2][:count]
    refined, logits = refine_all(masks_of(5, 2)[:count], classes, scores, library)
    np.testing.assert_array_equal(to_numpy(refined.labels), logits.argmax(axis=0))
    np.testing.assert_array_equal(to_numpy(refined.best), logits.max(axis=0))
    np.testing.assert_array_equal(to_numpy(refined.empty), logits.sum(axis=0) == 0)


def test_map_refinement_gives_ties_to_the_lowest_class(library):
    size = (16, 16)
    masks = np.stack([box_mask(size, (0, 1), (0, 1))] * 2)
    refined, _ = refine_all(masks, [1, 2], np.full((3, *size), 0.5, np.float32), library)
    assert (to_numpy(refined.labels) == 1).all()


def test_map_refinement_takes_the_lowest_mask_where_a_score_is_negative():
    size = (16, 16)
    masks = np.stack([box_mask(size, (0, 1), (0, 1), 2.0), box_mask(size, (0, 0), (0, 0))])
    _, logits = refine_all(masks, [0, 0], np.full((1, *size), -1, np.float32))
    np.testing.assert_allclose(logits, -1 / (1 + np.exp(6)), rtol=1e-5)


def test_map_refinement_gives_a_class_without_masks_its_zero_above_negative_scores():
    size = (16, 16)
    masks = box_mask(size, (0, 1), (0, 1))[None]
    refined, _ = refine_all(masks, [0], np.full((3, *size), -0.5, np.float32))
    assert (refined.labels == 1).all()
    assert (refined.best == 0).all()


def test_map_refinement_of_scores_that_cancel_is_empty():
    size = (16, 16)
    scores = np.stack([np.full(size, value, np.float32) for value in (0.5, -0.5)])
    masks = np.stack([box_mask(size, (0, 1), (0, 1))] * 2)
    assert refine_all(masks, [0, 1], scores)[0].empty.all()


def test_map_refinement_of_far_away_logits_stays_finite():
    size = (16, 16)
    masks = np.stack([box_mask(size, (0, 1), (0, 1), 1e4), np.full((256, 256), -1e4, np.float32)])
    for sign in (1, -1):
        _, logits = refine_all(masks, [0, 0], np.full((1, *size), sign, np.float32))
        np.testing.assert_allclose(logits, max(sign, 0), atol=1e-6)


def refined_left_half(size, score=0.2, library=np.asarray):
    """A tile of 2 classes where class 1 holds the left half with a refined score."""
    best = np.zeros(size, np.float32)
    best[:, : size[1] // 2] = score
    arrays = map(library, ((best > 0).astype(np.int32), best, best == 0))
    return RefinedTile(full_window(size), *arrays)


def test_fall_back_fills_the_rest_with_coarse_labels(library):
    coarse = library(np.full((4, 6), 7, np.int32))
    refined = fall_back(refined_left_half((4, 6), library=library), coarse)
    labels = to_numpy(refined.labels)
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
def test_map_failed_regions_labels_follow_the_rule(library, rule, coarse_score, top_left):
    size = (4, 6)
    failed_grid = np.array([[True] * 3, [False] * 3])
    scores = ClassScores(library(np.full((2, *size), coarse_score, np.float32)), size)
    options = RefineOptions(failed_regions=rule)
    failed = FailedArea.of(failed_grid, scores, options)
    refined = map_failed_regions(
        refined_left_half(size, library=library),
        library(np.zeros(size, np.int32)),
        failed,
        scores,
        options,
    )
    labels = to_numpy(refined.labels)
    assert labels[0, 0] == top_left
    assert (labels[2:, :3] == 1).all()


def test_steps_make_what_the_docstring_draws():
    coarse, mask, failed, refined, fallen_back, kept_coarse = columns_drawn_in(merge)
    assert coarse.shape == (8, 8)
    size, coarse = coarse.shape, coarse.astype(np.int32)
    masks = np.where(np.kron(mask == "#", np.ones((32, 32))), 6, -6)[None].astype(np.float32)
    scores = ClassScores(np.stack([coarse == i for i in range(3)]) * np.float32(0.8) + 0.1, size)
    options = RefineOptions(downsample_ratio=1, failed_regions="keep_coarse")
    kept = KeptMasks.of(masks, np.array([1], np.int32), size)
    area = FailedArea.of(failed == "x", scores, options)

    tile = map_refinement(kept, scores, Window(slice(0, 8), slice(0, 8)))
    drawn = np.where(tile.empty, ".", tile.labels.astype(str))
    np.testing.assert_array_equal(drawn, refined)
    tile = fall_back(tile, coarse)
    np.testing.assert_array_equal(tile.labels.astype(str), fallen_back)
    tile = map_failed_regions(tile, coarse, area, scores, options)
    np.testing.assert_array_equal(tile.labels.astype(str), kept_coarse)


def test_merge_returns_coarse_scores_to_failed_regions_and_lifts_the_rest_to_zero():
    size = (8, 8)
    masks = box_mask(size, (0, 1), (0, 1), 2.0)[None]
    failed_grid = np.zeros((4, 4), bool)
    failed_grid[:, :2] = True
    scores = ClassScores(np.full((2, *size), -0.25, np.float32), size)
    coarse = np.zeros(size, np.int32)
    logits = merge_maps(
        masks, np.array([0], np.int32), failed_grid, scores, coarse, RefineOptions(),
        want_logits=True,
    ).logits  # fmt: skip
    refined = np.float32(-0.25) / (1 + np.exp(np.float32(-2)))
    np.testing.assert_allclose(logits[0, :, :4], refined, rtol=1e-5)  # above -0.25
    assert (logits[0, :, 4:] == 0).all()
    assert (logits[1] == 0).all()


def test_keep_ignored_gives_ignored_pixels_their_label_back(library):
    coarse = library(np.array([[255, 0, 0, 0], [0, 0, 0, 255]], np.int32))
    refined = refined_left_half((2, 4), library=library)
    labels = keep_ignored(refined, coarse, RefineOptions(ignore_label=255)).labels
    assert to_numpy(labels).tolist() == [[255, 1, 0, 0], [1, 1, 0, 255]]


def test_unrefined_map_returns_what_came(library):
    coarse = library(np.arange(15, dtype=np.int32).reshape(3, 5))
    values = np.random.default_rng(0).random((2, 3, 5), np.float32)
    unrefined = unrefined_map(coarse, ClassScores(library(values), (3, 5)), want_logits=True)
    assert unrefined.labels is coarse
    np.testing.assert_array_equal(to_numpy(unrefined.logits), values)


def test_merge_leaves_its_arguments_alone(library):
    masks, values = masks_of(3, 1), scores_of("mixed", 2, (9, 11), 0)
    coarse = np.zeros((9, 11), np.int32)
    given_arrays = [library(array.copy()) for array in (masks, values, coarse)]
    merge_maps(
        given_arrays[0],
        np.array([0, 0, 1], np.int32),
        np.ones((4, 5), bool),
        ClassScores(given_arrays[1], (9, 11)),
        given_arrays[2],
        RefineOptions(failed_regions="keep_coarse"),
        want_logits=True,
    )
    for given_array, array in zip(given_arrays, (masks, values, coarse), strict=True):
        np.testing.assert_array_equal(to_numpy(given_array), array)


@pytest.mark.parametrize("rule", FailedRegions)
def test_merge_of_labels_only_makes_no_array_of_all_classes(rule):
    classes, size = 64, (256, 256)
    scores = ClassScores(np.random.default_rng(0).random((classes, 32, 32), np.float32), size)
    coarse = scores.argmax()
    masks, mask_classes = masks_of(20, 0), np.arange(20, dtype=np.int32)
    arguments = np.ones((128, 128), bool), scores, coarse, RefineOptions(failed_regions=rule)
    merge_maps(masks, mask_classes, *arguments, want_logits=False)  # what stays for later calls
    tracemalloc.start()
    try:
        merge_maps(masks, mask_classes, *arguments, want_logits=False)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 0.25 * 4 * classes * size[0] * size[1]
