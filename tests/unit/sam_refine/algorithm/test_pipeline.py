"""The pipeline with a decoder that is no network: masks drawn from the prompts' own boxes."""

import numpy as np
import pytest

from sam_refine.algorithm.pipeline import refine
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import STAGES, InvalidRequestError, RefineOptions
from sam_refine.numerics.arrays import to_numpy

SIZE = (64, 96)
FREE = int(20e9)


def box_decode(embedding, prompts):
    """A prompt's mask is its box, its IoU the share of the canvas that the box leaves free."""
    masks = np.full((len(prompts), 1, 256, 256), -8, np.float32)
    for mask, (_, (left, top), (right, bottom)) in zip(masks, prompts.point_coords, strict=True):
        mask[0, int(top / 4) : int(bottom / 4) + 1, int(left / 4) : int(right / 4) + 1] = 8
    corners = prompts.point_coords[:, 1:]
    sides = corners[:, 1] - corners[:, 0]
    ious = (1 - sides.prod(axis=1, keepdims=True) / 1024**2).astype(np.float32)
    height, width = prompts.low_res_size
    return masks[ious[:, 0] > np.float32(prompts.iou_threshold), :, :height, :width], ious


def two_class_scores():
    """Class 0 everywhere, class 1 in a ragged blob."""
    scores = np.zeros((2, *SIZE), np.float32)
    scores[0] = 0.4
    scores[1, 20:40, 30:50] = 0.7
    scores[1, 20, 30:40] = 0.1
    return ClassScores(scores, SIZE)


def run(scores=None, labels=None, options=None, **arguments):
    return refine(
        scores or two_class_scores(),
        labels,
        options or RefineOptions(),
        embed=lambda: np.zeros((1, 256, 64, 64), np.float32),
        decode=box_decode,
        free_memory_bytes=FREE,
        **arguments,
    )


def never():
    raise AssertionError("the embedding is not needed")


def test_refine_fills_the_kept_region_s_mask():
    refinement = run(options=RefineOptions(iou_threshold=0.5))
    assert refinement.regions.classes.tolist() == [0, 1]
    assert refinement.regions.kept.tolist() == [False, True]
    assert refinement.regions.boxes_xyxy_image.tolist() == [[0, 0, 94, 62], [30, 20, 48, 38]]
    assert (refinement.coarse_labels == 1).sum() == 390
    assert refinement.labels[30, 40] == 1
    assert refinement.labels[0, 0] == 0
    assert refinement.logits is None


def test_refine_returns_the_map_as_it_came_where_all_fail():
    refinement = run(options=RefineOptions(iou_threshold=1.0), want_logits=True)
    assert not refinement.regions.kept.any()
    assert (refinement.regions.ious > 0).all()
    np.testing.assert_array_equal(refinement.labels, refinement.coarse_labels)
    np.testing.assert_array_equal(refinement.logits, two_class_scores().values)


def test_refine_without_regions_asks_for_no_embedding():
    refinement = refine(
        two_class_scores(),
        None,
        RefineOptions(confidence_threshold=0.9),
        embed=never,
        decode=box_decode,
        free_memory_bytes=FREE,
        want_logits=True,
    )
    assert refinement.regions.ious.shape == (0,)
    assert refinement.regions.boxes_xyxy_image.shape == (0, 4)
    np.testing.assert_array_equal(refinement.logits, two_class_scores().values)


def test_refine_too_many_regions_is_refused_before_the_embedding():
    labels = (np.indices(SIZE).sum(axis=0) // 8 % 2).astype(np.int32)
    with pytest.raises(InvalidRequestError, match="regions, at most 1 are accepted"):
        refine(
            two_class_scores(),
            labels,
            RefineOptions(),
            embed=never,
            decode=box_decode,
            free_memory_bytes=FREE,
            max_regions=1,
        )


def test_refine_uses_the_given_labels_instead_of_the_argmax():
    labels = np.zeros(SIZE, np.int32)
    labels[:, 48:] = 1
    refinement = run(labels=labels, options=RefineOptions(iou_threshold=0.3))
    np.testing.assert_array_equal(refinement.coarse_labels, labels)
    assert refinement.regions.boxes_xyxy_image.tolist() == [[0, 0, 46, 62], [48, 0, 94, 62]]


def test_refine_keeps_ignored_pixels():
    labels = np.zeros(SIZE, np.int32)
    labels[10:30, 10:30] = 255
    refinement = run(labels=labels, options=RefineOptions(iou_threshold=0.0, ignore_label=255))
    assert (refinement.labels[10:30, 10:30] == 255).all()
    assert refinement.regions.classes.tolist() == [0]


def test_refine_computes_no_map_that_nobody_wants():
    refinement = run(want_labels=False)
    assert refinement.labels is None
    assert refinement.logits is None
    assert len(refinement.regions.ious) == 2


def test_refine_logits_and_labels_agree():
    refinement = run(options=RefineOptions(iou_threshold=0.0), want_logits=True)
    covered = refinement.logits.sum(axis=0) > 0
    np.testing.assert_array_equal(
        refinement.labels[covered], refinement.logits.argmax(axis=0)[covered]
    )


def test_refine_times_its_stages():
    times = dict(zip(STAGES, run().stage_times_ms, strict=True))
    assert times["decode"] > 0
    assert all(time >= 0 for time in times.values())


def test_refine_of_one_pixel():
    scores = ClassScores(np.array([[[0.1]], [[0.9]]], np.float32), (1, 1))
    assert run(scores, options=RefineOptions(iou_threshold=0.0)).labels.tolist() == [[1]]


def test_refine_keeps_the_coarse_labels_of_failed_regions_only():
    labels = np.zeros(SIZE, np.int32)
    labels[10:30, 10:40] = 1
    labels[12:20, 14:20] = 2  # kept: the smallest box
    scores = ClassScores(np.full((3, *SIZE), 0.5, np.float32), SIZE)
    options = RefineOptions(iou_threshold=0.95, failed_regions="keep_coarse")
    refinement = run(scores, labels, options)
    assert refinement.regions.kept.tolist() == [False, False, True]
    np.testing.assert_array_equal(refinement.labels == 1, labels == 1)
    assert (refinement.labels[12:20, 14:20] == 2).all()


@pytest.mark.parametrize("rule", ["scores_only", "compete", "keep_coarse"])
def test_refine_of_tensors_equals_that_of_arrays(library, rule):
    values = np.random.default_rng(0).dirichlet(np.ones(3), (12, 18)).astype(np.float16)
    values = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    options = RefineOptions(iou_threshold=0.995, confidence_threshold=0.4, failed_regions=rule)

    def library_decode(embedding, prompts):
        assert type(prompts.mask_prompts) is type(library(values))
        return tuple(map(library, box_decode(embedding, prompts)))

    expected = run(ClassScores(values, SIZE), options=options, want_logits=True)
    refinement = refine(
        ClassScores(library(values), SIZE),
        None,
        options,
        embed=lambda: library(np.zeros((1, 256, 64, 64), np.float32)),
        decode=library_decode,
        free_memory_bytes=FREE,
        want_logits=True,
    )
    assert 0 < expected.regions.kept.sum() < len(expected.regions.kept)
    np.testing.assert_array_equal(refinement.regions.kept, expected.regions.kept)
    np.testing.assert_array_equal(to_numpy(refinement.coarse_labels), expected.coarse_labels)
    np.testing.assert_array_equal(to_numpy(refinement.labels), expected.labels)
    np.testing.assert_allclose(to_numpy(refinement.logits), expected.logits, atol=1e-6)
    assert type(refinement.labels) is type(refinement.logits) is type(library(values))
    changed = (expected.labels != expected.coarse_labels).mean()
    assert refinement.changed_share() == expected.changed_share() == changed
    assert changed > 0
