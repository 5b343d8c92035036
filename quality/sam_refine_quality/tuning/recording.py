"""What SAM draws for one labelled image, recorded: judges can be tried on it again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sam_refine.algorithm.judging.changes import Changes, ProposedMap
from sam_refine.algorithm.judging.judge import Judge
from sam_refine.algorithm.judging.merge import judged_map
from sam_refine.algorithm.judging.pipeline import (
    RegionPlaces,
    all_masks,
    blank_report,
    propose,
)
from sam_refine.algorithm.predict import Decode, DecodedBatch, decode_batches
from sam_refine.algorithm.regions import Regions, split_regions
from sam_refine.algorithm.scores import ClassScores, coarse_map, grid_size
from sam_refine.contract import MOST_PROMPTS, Limits, RefineOptions
from sam_refine.numerics.arrays import Float32, Labels
from sam_refine_quality.metrics.truth import Truth


@dataclass(frozen=True, eq=False)
class Recording:
    """One image: its coarse map, its truth, its regions and the four masks of each."""

    name: str
    scores: ClassScores
    labels: Labels
    """S: (H, W) int32."""
    truth: Truth
    options: RefineOptions
    regions: Regions
    batches: Sequence[DecodedBatch]
    """Of the regions, the largest first; low-res logits in float16."""

    @classmethod
    def of(
        cls,
        name: str,
        scores: ClassScores,
        labels: Labels | None,
        truth: Truth,
        embedding: Float32,
        decode: Decode,
        options: RefineOptions,
    ) -> Recording:
        """Ask SAM for the masks of every region; arguments as of `refine_judged`."""
        size_grid = grid_size(scores.size_image, options.downsample_ratio)
        coarse, labels_grid, grid_scores = coarse_map(scores, labels, size_grid)
        regions = split_regions(labels_grid, grid_scores, options, Limits.max_regions)
        batches: list[DecodedBatch] = []
        if len(regions) > 0:
            prompts = all_masks(regions, grid_scores, options)
            for decoded in decode_batches(embedding, prompts, decode, MOST_PROMPTS):
                half = decoded.low_res_logits.astype(np.float16)
                batches.append(decoded._replace(low_res_logits=half))
        return cls(name, scores, coarse, truth, options, regions, batches)

    def places(self) -> RegionPlaces:
        """Where the regions lie; there must be some."""
        return RegionPlaces.of(self.labels, self.scores, self.regions)

    def masks(self) -> Iterator[tuple[int, Float32, Float32]]:
        """Of each kept region: its index, low-res logits (4, h_l, w_l), predicted IoUs (4,)."""
        for decoded in self._in_batches():
            regions = self.regions.largest_first[decoded.batch][decoded.kept]
            ious = decoded.ious[decoded.kept]
            yield from zip(regions.tolist(), decoded.low_res_logits, ious, strict=True)

    def changes(self, judge: Judge) -> Changes:
        """What a judge of masks would propose; there must be regions."""
        places, report = self.places(), blank_report(self.regions, self.options)
        proposed = ProposedMap(self.labels, self.scores, self.regions, places.grid)
        for decoded in self._in_batches():
            for proposal in propose(judge, places, self.regions, decoded, report):
                proposed.paint(proposal)
        return proposed.changes(self.options.ignore_label)

    def refined(self, judge: Judge, least_gains: Sequence[float]) -> list[Labels]:
        """The map (H, W) that a judge makes of it, at each `min_gain`."""
        if len(self.regions) == 0:
            return [self.labels for _ in least_gains]
        changes = self.changes(judge)
        gains = changes.gains(judge)
        maps = []
        for least in least_gains:
            refined = judged_map(
                self.labels, self.scores, changes, gains > least, want_logits=False
            )
            maps.append(refined.labels)
        return maps

    def _in_batches(self) -> Iterator[DecodedBatch]:
        for decoded in self.batches:
            whole = decoded.low_res_logits.astype(np.float32)
            yield decoded._replace(low_res_logits=whole)
