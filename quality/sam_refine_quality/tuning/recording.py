"""What SAM draws for one labelled image, recorded: a judge can be tried on it often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sam_refine.algorithm.judging.judge import Judge
from sam_refine.algorithm.judging.pipeline import RegionPlaces, blank_report, propose, refine_judged
from sam_refine.algorithm.judging.proposals import Proposal
from sam_refine.algorithm.pipeline import Refinement
from sam_refine.algorithm.predict import Decode
from sam_refine.algorithm.prompts import Prompts
from sam_refine.algorithm.regions import Regions, split_regions
from sam_refine.algorithm.scores import ClassScores, coarse_map, grid_size
from sam_refine.contract import Limits, RefineOptions
from sam_refine.numerics.arrays import Float32, Labels, Mask

_FREE_MEMORY_BYTES = 10**12  # all prompts in batches of the same size, whatever the machine


@dataclass
class Recording:
    """One image: its coarse map, its truth, and the four masks of each region."""

    name: str
    scores: ClassScores
    labels: Labels
    """S: (H, W) int32."""
    truth: Labels
    """(H, W) int32."""
    is_valid: Mask
    """(H, W) where the truth is known."""
    options: RefineOptions
    batches: list[tuple[npt.NDArray[np.float16], Float32]] = field(default_factory=list)
    """Low-res logits (n, 4, h_l, w_l) and predicted IoUs (n, 4) of the regions, in their order."""

    def record(self, embedding: Float32, decode: Decode) -> None:
        """Ask SAM for the masks of every region, once and for all."""

        def recorded(embedding: Float32, prompts: Prompts) -> tuple[Float32, Float32]:
            logits, ious = decode(embedding, prompts)
            self.batches.append((logits.astype(np.float16), ious))
            return logits, ious

        self._refine(_Idle(), lambda: embedding, recorded)

    def refine(self, judge: Judge) -> Refinement:
        """The map that a judge makes of it."""
        played = iter(self.batches)

        def decode(embedding: Float32, prompts: Prompts) -> tuple[Float32, Float32]:
            logits, ious = next(played)
            return logits.astype(np.float32), ious

        return self._refine(judge, lambda: np.empty(0, np.float32), decode)

    def _refine(self, judge: Judge, embed, decode: Decode) -> Refinement:  # type: ignore[no-untyped-def]
        return refine_judged(
            self.scores,
            self.labels,
            self.options,
            judge,
            embed=embed,
            decode=decode,
            free_memory_bytes=_FREE_MEMORY_BYTES,
            max_regions=Limits.max_regions,
        )

    def regions(self) -> Regions:
        """The regions of the coarse map."""
        size_grid = grid_size(self.scores.size_image, self.options.downsample_ratio)
        _, labels_grid, grid_scores = coarse_map(self.scores, self.labels, size_grid)
        return split_regions(labels_grid, grid_scores, self.options, Limits.max_regions)

    def masks(self) -> Iterator[tuple[int, Float32, Float32]]:
        """Of each region: its index, low-res logits (4, h_l, w_l), predicted IoUs (4,)."""
        region = 0
        for logits, ious in self.batches:
            for own_logits, own_ious in zip(logits, ious, strict=True):
                yield region, own_logits.astype(np.float32), own_ious
                region += 1

    def proposals(self, judge: Judge, regions: Regions, places: RegionPlaces) -> list[Proposal]:
        """What a judge would propose."""
        report, found, start = blank_report(regions, self.options), [], 0
        for logits, ious in self.batches:
            batch = slice(start, start + len(logits))
            found += propose(judge, places, regions, batch, logits.astype(np.float32), ious, report)
            start = batch.stop
        return found


class _Idle:
    """A judge that foretells nothing of any mask."""

    lowest_mask_gain = 0.0

    def mask_gains(self, features: Float32) -> Float32:
        return np.full(len(features), -1, np.float32)

    def change_gains(self, features: Float32) -> Float32:
        return np.full(len(features), -1, np.float32)
