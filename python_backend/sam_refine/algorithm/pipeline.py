"""Algorithm 4, Optimized SAM Refinement, from top to bottom.

`docs/algorithm.md` has the listing, and what each of its lines means here. Letters are those of the
package's docstring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_refine.algorithm.merge import (
    FailedArea,
    KeptMasks,
    RefinedMap,
    fall_back,
    keep_ignored,
    map_failed_regions,
    map_refinement,
    unrefined_map,
)
from sam_refine.algorithm.predict import Decode, Predictions, batch_size, no_predictions, predict
from sam_refine.algorithm.prompts import transform_prompts
from sam_refine.algorithm.regions import Regions, split_regions
from sam_refine.algorithm.scores import ClassScores, coarse_map, grid_size
from sam_refine.algorithm.stages import StageClock
from sam_refine.contract import Limits, Outcome, RefineOptions
from sam_refine.numerics.arrays import Float32, Labels, tiles, to_numpy


@dataclass(frozen=True)
class RegionReport:
    """The Q regions of the coarse map, kept or failed, in the order of SplitRegions."""

    classes: npt.NDArray[np.int32]
    """(Q,) class ids."""
    boxes_xyxy_image: npt.NDArray[np.int32]
    """B * r: (Q, 4) x_min, y_min, x_max, y_max, inclusive cells of the grid times r."""
    scores: Float32
    """Q_b: (Q,) mean coarse score."""
    ious: Float32
    """(Q,) SAM's predicted IoU, with a judge that of the best mask."""
    outcomes: npt.NDArray[np.int32]
    """(Q,) a `contract.Outcome` each."""
    masks: npt.NDArray[np.int32]
    """(Q,) which of SAM's four masks a judge has chosen, the single one being 0; else -1."""
    gains: Float32
    """(Q,) what a judge foretells of that mask; else 0."""

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """(Q,) whether a mask was taken: where it was, Q and B' of the algorithm."""
        kept: npt.NDArray[np.bool_] = self.outcomes == Outcome.REFINED
        return kept


@dataclass(frozen=True)
class Refinement:
    """What Algorithm 4 returns."""

    labels: Labels | None
    """S': (H, W) int32; None where it was not asked for."""
    logits: Float32 | None
    """L': (C, H, W); None where it was not asked for."""
    coarse_labels: Labels
    """S: (H, W) int32."""
    regions: RegionReport
    dropped_components: int
    """How many components of S were too small to be regions."""
    stage_times_ms: Float32
    """(len(contract.STAGES),)."""

    def changed_share(self) -> float | None:
        """The share of pixels whose label is another than in S; None where there is no S'."""
        if self.labels is None:
            return None
        changed = to_numpy(self.labels != self.coarse_labels)  # numpy counts fastest
        return np.count_nonzero(changed) / changed.size


def refine(
    scores: ClassScores,
    labels: Labels | None,
    options: RefineOptions,
    *,
    embed: Callable[[], Float32],
    decode: Decode,
    free_memory_bytes: int,
    bytes_per_prompt: int = Limits.bytes_per_prompt,
    max_regions: int = Limits.max_regions,
    want_labels: bool = True,
    want_logits: bool = False,
) -> Refinement:
    """Refine a coarse map: `scores` is L, `labels` is S (None: argmax of L), `embed` holds I.

    `embed` gives SAM's embedding of the image, (1, 256, 64, 64), and is not called where the map
    has no regions; `decode` is SAM's mask decoder; `free_memory_bytes` is M_free. Raises
    `InvalidRequestError` for too many regions, and whatever `embed` and `decode` raise.
    """
    clock = StageClock()
    with clock.stage("downsample"):
        size_grid = grid_size(scores.size_image, options.downsample_ratio)
        labels_image, labels_grid, grid_scores = coarse_map(scores, labels, size_grid)  # F_down
    with clock.stage("split_regions"):
        regions = split_regions(labels_grid, grid_scores, options, max_regions)

    predictions = no_predictions()
    if len(regions) > 0:
        with clock.stage("embed"):
            embedding = embed()
        with clock.stage("prompts"):
            prompts = transform_prompts(regions, grid_scores, options)  # Bt, Pt, Lr of all i
        with clock.stage("decode"):
            b_size = batch_size(free_memory_bytes, bytes_per_prompt)
            predictions = predict(embedding, prompts, decode, b_size)
    kept = predictions.kept

    refined_map = None
    if want_labels or want_logits:
        with clock.stage("merge"):
            if not kept.any():
                refined_map = unrefined_map(labels_image, scores, want_logits=want_logits)
            else:
                kept_logits, kept_classes = predictions.low_res_logits, regions.classes[kept]
                masks = KeptMasks.of(kept_logits, kept_classes, scores.size_image)  # L_all
                failed_grid = None if kept.all() else regions.mask_grid(~kept)
                failed = FailedArea.of(failed_grid, scores, options)  # R_f
                refined_map = RefinedMap.blank(scores, failed, want_logits=want_logits)
                for tile in tiles(scores.size_image, scores.values):
                    coarse = labels_image[tile]
                    refined = map_refinement(masks, scores, tile, want_scores=want_logits)
                    refined = fall_back(refined, coarse)  # where sum_c L'_c = 0
                    refined = map_failed_regions(refined, coarse, failed, scores, options)
                    refined = keep_ignored(refined, coarse, options)
                    refined_map.put(refined)

    return Refinement(
        labels=refined_map.labels if refined_map and want_labels else None,
        logits=refined_map.logits if refined_map else None,
        coarse_labels=labels_image,
        regions=_report(regions, predictions, options),
        dropped_components=regions.dropped,
        stage_times_ms=clock.times_ms,
    )


def _report(regions: Regions, predictions: Predictions, options: RefineOptions) -> RegionReport:
    return RegionReport(
        classes=regions.classes,
        boxes_xyxy_image=regions.boxes_xyxy_grid * np.int32(options.downsample_ratio),
        scores=regions.scores,
        ious=predictions.ious,
        outcomes=np.where(predictions.kept, Outcome.REFINED, Outcome.LOW_IOU).astype(np.int32),
        masks=np.full(len(regions), -1, np.int32),
        gains=np.zeros(len(regions), np.float32),
    )
