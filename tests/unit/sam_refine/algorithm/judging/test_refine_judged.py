"""The judged pipeline with a decoder and a judge that are no networks."""

from dataclasses import dataclass

import numpy as np
import pytest

from sam_refine.algorithm.judging.judge import RuleJudge
from sam_refine.algorithm.judging.pipeline import refine_judged
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import CHANGE_FEATURES, STAGES, MaskChoice, Outcome, RefineOptions
from sam_refine.numerics.arrays import to_numpy

SIZE = (64, 96)
OPTIONS = RefineOptions(downsample_ratio=1, min_gain=0.1)
FREE = int(20e9)
THING = np.s_[17:43, 26:58]


def shifted_scores():
    """Class 1 where the thing is, but a few pixels up and left, and a crumb of class 2."""
    scores = np.full((3, *SIZE), 0.1, np.float32)
    scores[0] = 0.5
    scores[1, 14:38, 22:52] = 0.6
    scores[2, 60, 90] = 0.9
    return ClassScores(scores, SIZE)


def thing_decode(embedding, prompts):
    """Of the thing's prompt: the thing, nothing, everything, its upper half.

    Of what is behind it everything, and of a crumb nothing.
    """
    assert prompts.choice is MaskChoice.ALL
    height, width = prompts.low_res_size
    rows, columns = np.indices((height, width)) * max(SIZE) // 256
    masks = np.full((len(prompts), 4, height, width), -6, np.float32)
    inside = (rows >= 17) & (rows < 43) & (columns >= 26) & (columns < 58)
    masks[:, 0, inside] = 6
    masks[:, 2] = 6
    masks[:, 3, inside & (rows < 30)] = 6
    widths = prompts.point_coords[:, 2, 0] - prompts.point_coords[:, 1, 0]
    masks[widths > 900] = 6
    masks[widths < 100] = -6
    ious = np.broadcast_to(np.float32([0.9, 0.1, 0.3, 0.6]), (len(prompts), 4))
    return masks, ious.copy()


@dataclass(frozen=True)
class Fixed:
    """A judge that says the same of every mask, and of every change what a column says."""

    mask_gain: float = 0.5
    change_gain: float = 0.5
    lowest_mask_gain: float = 0.0

    def mask_gains(self, features):
        return np.full(len(features), self.mask_gain, np.float32)

    def change_gains(self, features):
        return np.full(len(features), self.change_gain, np.float32)


def run(judge, scores=None, labels=None, options=OPTIONS, free=FREE, **arguments):
    arguments = {"decode": thing_decode} | arguments
    return refine_judged(
        scores or shifted_scores(),
        labels,
        options,
        judge,
        embed=lambda: np.zeros((1, 256, 64, 64), np.float32),
        free_memory_bytes=free,
        **arguments,
    )


def of_class(refinement, class_id):
    return int(np.flatnonzero(refinement.regions.classes == class_id)[0])


def test_a_map_snaps_to_what_sam_draws():
    refinement = run(RuleJudge(), want_logits=True)
    truth = np.zeros(SIZE, np.int32)
    truth[THING] = 1
    was, now = (
        (labels == 1) != (truth == 1) for labels in (refinement.coarse_labels, refinement.labels)
    )
    assert was.sum() > 250
    assert now.sum() < was.sum() / 3
    np.testing.assert_array_equal(refinement.labels, refinement.logits.argmax(axis=0))
    region = of_class(refinement, 1)
    assert refinement.regions.outcomes[region] == Outcome.REFINED
    assert refinement.regions.masks[region] == 0
    assert refinement.regions.ious[region] == np.float32(0.9)


@pytest.mark.parametrize(
    ("judge", "outcome"),
    [
        (Fixed(mask_gain=-0.2), Outcome.LOW_GAIN),
        (Fixed(change_gain=0.1), Outcome.NO_CHANGE),  # min_gain itself is not above min_gain
        (Fixed(), Outcome.REFINED),
    ],
)
def test_the_report_says_why_a_region_was_left_alone(judge, outcome):
    refinement = run(judge, want_logits=True)
    region = of_class(refinement, 1)
    assert refinement.regions.outcomes[region] == outcome
    assert refinement.regions.gains[region] == np.float32(judge.mask_gain)
    if outcome != Outcome.REFINED:
        np.testing.assert_array_equal(refinement.labels, refinement.coarse_labels)
        np.testing.assert_array_equal(refinement.logits, shifted_scores().values)


def test_a_region_of_which_sam_thinks_no_mask_good_is_left_alone():
    """The decoder draws masks of the others only, which stay those of their regions."""

    def decode(embedding, prompts):
        masks, ious = thing_decode(embedding, prompts)
        assert prompts.iou_threshold == OPTIONS.iou_threshold
        widths = prompts.point_coords[:, 2, 0] - prompts.point_coords[:, 1, 0]
        ious[widths > 900] = OPTIONS.iou_threshold
        return masks[widths <= 900], ious

    refinement, whole = run(Fixed(), decode=decode), run(Fixed())
    behind, thing = (of_class(refinement, class_id) for class_id in (0, 1))
    assert refinement.regions.outcomes[behind] == Outcome.LOW_IOU
    assert refinement.regions.ious[behind] == np.float32(OPTIONS.iou_threshold)
    assert refinement.regions.masks[behind] == -1
    assert whole.regions.outcomes[behind] != Outcome.LOW_IOU
    assert refinement.regions.outcomes[thing] == Outcome.REFINED
    assert refinement.regions.masks[thing] == whole.regions.masks[thing]
    assert (refinement.labels[THING] == 1).mean() > 0.9


def test_a_region_smaller_than_a_cell_is_left_alone():
    scores = np.zeros((2, 40, 600), np.float32)
    scores[0] = 0.5
    scores[1, 3, 3] = 0.9
    refinement = run(Fixed(), ClassScores(scores, (40, 600)))
    region = of_class(refinement, 1)
    assert refinement.regions.outcomes[region] == Outcome.NO_MASK
    assert refinement.regions.masks[region] == -1


def test_small_regions_are_drawn_after_large_ones():
    areas = []

    def decode(embedding, prompts):
        corners = prompts.point_coords[:, 1:]
        areas.extend(np.prod(corners[:, 1] - corners[:, 0], axis=1).tolist())
        return thing_decode(embedding, prompts)

    run(Fixed(), decode=decode)
    assert len(areas) == 3
    assert areas == sorted(areas, reverse=True)


def test_the_batch_size_is_no_part_of_the_answer():
    scores = np.random.default_rng(0).random((3, 8, 12)).astype(np.float32)
    whole, one_by_one = (
        run(RuleJudge(), ClassScores(scores, SIZE), free=free, want_logits=True)
        for free in (FREE, 1)
    )
    assert len(whole.regions.classes) > 2
    np.testing.assert_array_equal(whole.labels, one_by_one.labels)
    np.testing.assert_array_equal(whole.logits, one_by_one.logits)
    for name in ("outcomes", "masks", "gains", "ious"):
        np.testing.assert_array_equal(
            getattr(whole.regions, name), getattr(one_by_one.regions, name)
        )


def test_any_array_library_gives_the_same_map(library):
    scores = shifted_scores()
    expected = run(RuleJudge(), want_logits=True)
    found = run(RuleJudge(), ClassScores(library(scores.values), SIZE), want_logits=True)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(to_numpy(found.logits), expected.logits)


def test_no_regions_no_embedding_and_the_map_as_it_came():
    options = RefineOptions(confidence_threshold=0.95)
    refinement = refine_judged(
        shifted_scores(),
        None,
        options,
        Fixed(),
        embed=lambda: pytest.fail("the embedding is not needed"),
        decode=thing_decode,
        free_memory_bytes=FREE,
        want_logits=True,
    )
    np.testing.assert_array_equal(refinement.labels, refinement.coarse_labels)
    np.testing.assert_array_equal(refinement.logits, shifted_scores().values)
    assert len(refinement.stage_times_ms) == len(STAGES)


def test_what_is_shown_to_the_judge_is_what_changes():
    seen = []

    class Watching(Fixed):
        def change_gains(self, features):
            seen.append(features)
            return super().change_gains(features)

    refinement = run(Watching())
    (features,) = seen
    changed = refinement.labels != refinement.coarse_labels
    assert len(features) == changed.sum()
    old, new = (features[:, CHANGE_FEATURES.index(name)] for name in ("old_class", "new_class"))
    assert (old != new).all()
    assert sorted(new.tolist()) == sorted(refinement.labels[changed].tolist())
