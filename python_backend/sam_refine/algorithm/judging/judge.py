"""What a judge is, and a judge that has learned nothing.

A gain is the share of what changes that turns right minus the share that turns wrong, in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES
from sam_refine.numerics.arrays import Float32


class Judge(Protocol):
    """Foretells gains from features; see `contract.judging` for their columns."""

    @property
    def lowest_mask_gain(self) -> float:
        """Masks with no more are not even looked at pixel by pixel."""

    def mask_gains(self, features: Float32) -> Float32:
        """(n, len(MASK_FEATURES)) to (n,): what taking each mask would gain."""

    def change_gains(self, features: Float32) -> Float32:
        """(m, len(CHANGE_FEATURES)) to (m,): what each change would gain."""


Infer = Callable[[Float32, Float32], tuple[Float32, Float32]]
"""The model `contract.SAM_MASK_JUDGE`: both features to both gains, (n, 1) and (m, 1)."""


@dataclass(frozen=True)
class LearnedJudge:
    """A judge learned by `sam-refine tune`."""

    infer: Infer
    lowest_mask_gain: float = -0.05
    """A little below nothing: some of a mask may be good where most of it is not."""

    def mask_gains(self, features: Float32) -> Float32:
        gains, _ = self.infer(features, np.empty((0, len(CHANGE_FEATURES)), np.float32))
        return gains[:, 0]

    def change_gains(self, features: Float32) -> Float32:
        _, gains = self.infer(np.empty((0, len(MASK_FEATURES)), np.float32), features)
        return gains[:, 0]


@dataclass(frozen=True)
class RuleJudge:
    """Weighs SAM's certainty against the network's own: for class scores that are probabilities.

    A mask counts for how much it is the region at all. A change is as likely to be right as a
    logistic regression says whose few weights were chosen on three kinds of coarse maps (two
    networks of different sharpness, and averaged truth), and hold for none in particular.
    """

    lowest_mask_gain: float = 0.0

    def mask_gains(self, features: Float32) -> Float32:
        """IoU of mask and region, times SAM's own prediction of its IoU with what it means."""
        mask = dict(zip(MASK_FEATURES, features.T, strict=True))
        gains: Float32 = mask["region_iou"] * np.clip(mask["predicted_iou"], 0, 1)
        return gains

    def change_gains(self, features: Float32) -> Float32:
        change = dict(zip(CHANGE_FEATURES, features.T, strict=True))
        adds = change["logit"] > 0
        odds = (change["score_new"] + _FLOOR) / (np.maximum(change["score_old"], 0) + _FLOOR)
        log_odds = (
            _WEIGHTS["intercept"]
            + _WEIGHTS["log_score_ratio"] * np.log(np.maximum(odds, _FLOOR))
            + _WEIGHTS["score_old"] * change["score_old"]
            + _WEIGHTS["score_region"] * change["score_region"]
            + _WEIGHTS["certainty"] * np.minimum(np.abs(change["logit"]), _MAX_LOGIT)
            + _WEIGHTS["consensus"] * np.where(adds, change["consensus"], 1 - change["consensus"])
            + _WEIGHTS["depth_old"] * change["depth_old"]
        )
        gains: Float32 = np.tanh(log_odds / 2).astype(np.float32)  # p - (1 - p)
        return gains


_FLOOR: Final = 1e-3
_MAX_LOGIT: Final = 8.0
_WEIGHTS: Final = {
    "intercept": 0.75,
    "log_score_ratio": 0.58,
    "score_old": -0.92,
    "score_region": -1.5,
    "certainty": 0.084,
    "consensus": 0.78,
    "depth_old": 0.11,
}
