"""The mask of each region that the judge foretells most of, brought to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sam_refine.algorithm.judging.candidates import Candidates
from sam_refine.algorithm.judging.judge import Judge
from sam_refine.algorithm.postprocess import MaskPostprocessor
from sam_refine.numerics.arrays import Float32, UInt8, Window

MASKS: Final = 4
"""That SAM draws of a prompt."""


@dataclass(frozen=True)
class Proposal:
    """One mask of one region."""

    region: int
    class_id: int
    mask: int
    """Which of SAM's four."""
    gain: float
    """What the judge foretells of it."""
    features: Float32
    """(len(MASK_FEATURES),)."""
    window: Window
    """The part of the image that it can change."""
    low_res_logits: Float32
    """(4, h_l, w_l) of all four."""
    postprocessor: MaskPostprocessor

    def logits(self, part: Window) -> Float32:
        """(h, w) in a part of the image."""
        logits: Float32 = self.postprocessor.logits(self.low_res_logits[self.mask], part)
        return logits

    def votes(self, part: Window, logits: Float32) -> UInt8:
        """(h, w) how many of the four masks have a pixel of a part; `logits` are its own there."""
        votes = (logits > 0).astype(np.uint8)
        for mask, low_res_logits in enumerate(self.low_res_logits):
            if mask != self.mask:
                votes += self.postprocessor.logits(low_res_logits, part) > 0
        return votes


@dataclass(frozen=True)
class Choice:
    """Of one region: the mask that is best, if there is any, and whether it is proposed."""

    candidates: Candidates
    best: int
    """Its row in the candidates."""
    gain: float

    @property
    def mask(self) -> int:
        return self.candidates.masks[self.best]


def choose_masks(candidates: list[Candidates], judge: Judge) -> list[Choice]:
    """Of each region with candidates, the one of the highest foretold gain, the first if equal."""
    several = [each for each in candidates if each.masks]
    if not several:
        return []
    gains = judge.mask_gains(np.concatenate([each.features for each in several]))
    ends = np.cumsum([len(each.masks) for each in several])
    choices = []
    for each, own in zip(several, np.split(gains, ends[:-1]), strict=True):
        best = int(own.argmax())
        choices.append(Choice(each, best, float(own[best])))
    return choices


def proposal_of(
    choice: Choice,
    class_id: int,
    low_res_logits: Float32,
    region_window: Window,
    postprocessor: MaskPostprocessor,
) -> Proposal:
    """Propose the chosen of masks (4, h_l, w_l); the region's window is the image's."""
    ((rows, columns),) = postprocessor.positive_windows(low_res_logits[choice.mask][None]).tolist()
    return Proposal(
        choice.candidates.region,
        class_id,
        choice.mask,
        choice.gain,
        choice.candidates.features[choice.best],
        _union(region_window, Window(slice(*rows), slice(*columns))),
        low_res_logits,
        postprocessor,
    )


def _union(one: Window, other: Window) -> Window:
    """The smallest window around both; `one` is not empty."""
    if not all(other.size_hw):
        return one
    sides = zip(one, other, strict=True)
    return Window(*(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in sides))
