"""What a judge of masks is shown and what it says: the columns of its inputs, in order.

A judge is asked twice about an image. First of each candidate mask of a region: what would taking
it gain? Then, of the masks that were chosen, pixel by pixel: is this change right? Both answers are
gains: the share of what changes that turns right minus the share that turns wrong, in [-1, 1].

Lengths and areas are in cells of SAM's low-resolution masks (256 on the longer side of an image),
so that they mean the same for images of any size. A letter is a set of such cells: M the mask, R
the region, A what the mask adds (M without cells of the class), D what it removes (R without M).
NaN stands where a set is empty. Needs the standard library only.
"""

from __future__ import annotations

from typing import Final

from sam_refine.contract.tensors import MOST_PROMPTS, ModelSpec, TensorSpec

MASK_FEATURES: Final = (
    "predicted_iou",  # by SAM, of the mask
    "rank",  # of that among the four masks of the prompt: 0 is the highest
    "mask",  # which of the four it is: 0 the single one, 1 to 3 from part to whole
    "class_id",
    "region_iou",  # of M and R
    "region_recall",  # share of R in M
    "region_precision",  # share of M in R
    "own_share",  # share of M that has the class already
    "log_region",  # log of the area of R
    "log_mask",
    "log_added",  # log(1 + area)
    "log_removed",
    "added_share",  # area of A over that of R
    "removed_share",
    "score_mask",  # the class's mean score in M
    "score_region",
    "score_added",
    "score_removed",
    "margin_added",  # best score minus the class's, mean over A
    "best_removed",  # best score, mean over D
    "second_removed",  # second best score, mean over D
    "stability",  # area at a logit > 1 over area at > -1
    "certainty_added",  # |logit|, mean over A
    "certainty_removed",
    "consensus_added",  # share of the four masks that agree, mean over A
    "consensus_removed",
    "agreement",  # mean IoU with the other three masks
    "depth_added",  # cells from the nearest border of the coarse map, at most 8, mean over A
    "depth_removed",
)
"""Columns of `mask_features`."""

CHANGE_FEATURES: Final = (
    "score_old",  # at the pixel, of the class that it has
    "score_new",  # of the class that it would get
    "score_best",
    "score_second",
    "logit",  # of the mask that would change it; positive where it adds
    "consensus",  # share of the four masks that agree
    "depth_old",  # cells from the nearest border of the coarse map, at most 8
    "depth_new",  # of the map as it would become
    "old_class",
    "new_class",
    "gain",  # foretold of the whole mask
    "predicted_iou",
    "mask",
    "region_iou",
    "region_recall",
    "region_precision",
    "own_share",
    "log_region",
    "added_share",
    "removed_share",
    "score_mask",
    "score_region",
    "score_added",
    "score_removed",
    "margin_added",
    "stability",
    "certainty_added",
    "consensus_added",
    "agreement",
)
"""Columns of `change_features`; the last ones are the mask's own."""

MOST_MASKS: Final = 4 * MOST_PROMPTS
"""That go to the judge in one go: all that the decoder draws in one."""
MOST_CHANGES: Final = 2**18
"""That go to the judge in one go: 33 MiB of features."""

SAM_MASK_JUDGE: Final = ModelSpec(
    "sam_mask_judge",
    inputs=(
        TensorSpec("mask_features", "FP32", ("n", len(MASK_FEATURES))),
        TensorSpec("change_features", "FP32", ("m", len(CHANGE_FEATURES))),
    ),
    outputs=(
        TensorSpec("mask_gains", "FP32", ("n", 1)),
        TensorSpec("change_gains", "FP32", ("m", 1)),
    ),
)
"""A learned judge: gains foretold of n masks and of m changes; one of n and m may be 0."""
