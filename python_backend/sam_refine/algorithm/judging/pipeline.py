"""Judged masks from top to bottom: Algorithm 4 up to SAM's masks, then the judge.

`docs/algorithm.md` has the listing of this extension. What it shares with `pipeline.refine` are the
steps before SAM is asked, and the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sam_refine.algorithm.judging.candidates import candidates_of
from sam_refine.algorithm.judging.changes import ProposedMap
from sam_refine.algorithm.judging.judge import Judge
from sam_refine.algorithm.judging.mask_grid import MaskGrid, region_windows
from sam_refine.algorithm.judging.merge import judged_map
from sam_refine.algorithm.judging.proposals import Proposal, choose_masks, proposal_of
from sam_refine.algorithm.merge import unrefined_map
from sam_refine.algorithm.pipeline import Refinement, RegionReport
from sam_refine.algorithm.postprocess import MaskPostprocessor
from sam_refine.algorithm.predict import Decode, DecodedBatch, batch_size, decode_batches
from sam_refine.algorithm.prompts import Prompts, transform_prompts
from sam_refine.algorithm.regions import Regions, split_regions
from sam_refine.algorithm.scores import ClassScores, GridScores, coarse_map, grid_size
from sam_refine.algorithm.stages import StageClock
from sam_refine.contract import Limits, MaskChoice, Outcome, RefineOptions
from sam_refine.numerics.arrays import Float32, Labels, Window, to_numpy


def refine_judged(
    scores: ClassScores,
    labels: Labels | None,
    options: RefineOptions,
    judge: Judge,
    *,
    embed: Callable[[], Float32],
    decode: Decode,
    free_memory_bytes: int,
    bytes_per_prompt: int = Limits.bytes_per_prompt,
    max_regions: int = Limits.max_regions,
    want_labels: bool = True,
    want_logits: bool = False,
) -> Refinement:
    """Refine a coarse map by what a judge foretells; arguments and errors as of `refine`.

    All but the networks is numpy's work, wherever the scores are.
    """
    clock = StageClock()
    with clock.stage("downsample"):
        scores = replace(scores, values=to_numpy(scores.values))
        labels = None if labels is None else to_numpy(labels)
        size_grid = grid_size(scores.size_image, options.downsample_ratio)
        labels_image, labels_grid, grid_scores = coarse_map(scores, labels, size_grid)
    with clock.stage("split_regions"):
        regions = split_regions(labels_grid, grid_scores, options, max_regions)

    report = blank_report(regions, options)
    refined_map = None
    if len(regions) > 0:
        with clock.stage("embed"):
            embedding = embed()
        with clock.stage("prompts"):
            prompts = all_masks(regions, grid_scores, options)
        with clock.stage("judge"):
            places = RegionPlaces.of(labels_image, scores, regions)
            proposed = ProposedMap(labels_image, scores, regions, places.grid)
        batches = decode_batches(
            embedding, prompts, decode, batch_size(free_memory_bytes, bytes_per_prompt)
        )
        while (decoded := _next(batches, clock)) is not None:
            with clock.stage("judge"):
                for proposal in propose(judge, places, regions, decoded, report):
                    proposed.paint(proposal)
        with clock.stage("judge"):
            changes = proposed.changes(options.ignore_label)
            passed = changes.gains(judge) > options.min_gain
            report.outcomes[changes.regions[passed]] = Outcome.REFINED
        with clock.stage("merge"):
            refined_map = judged_map(labels_image, scores, changes, passed, want_logits=want_logits)
    if refined_map is None:
        refined_map = unrefined_map(labels_image, scores, want_logits=want_logits)
    return Refinement(
        labels=refined_map.labels if want_labels else None,
        logits=refined_map.logits,
        coarse_labels=labels_image,
        regions=report,
        dropped_components=regions.dropped,
        stage_times_ms=clock.times_ms,
    )


def all_masks(regions: Regions, scores: GridScores, options: RefineOptions) -> Prompts:
    """The prompts of Algorithm 4, largest regions first, for all four masks of each."""
    prompts = transform_prompts(regions, scores, options).some(regions.largest_first)
    return replace(prompts, choice=MaskChoice.ALL)


def _next(batches: Iterator[DecodedBatch], clock: StageClock) -> DecodedBatch | None:
    with clock.stage("decode"):
        return next(batches, None)


@dataclass(frozen=True)
class RegionPlaces:
    """Where regions lie, on the grid of SAM's masks and in the image."""

    grid: MaskGrid
    windows_image: tuple[Window, ...]
    """Of each region: the pixels that its box covers."""
    size_image: tuple[int, int]

    @classmethod
    def of(cls, labels_image: Labels, scores: ClassScores, regions: Regions) -> RegionPlaces:
        return cls(
            MaskGrid.of(labels_image, scores, regions),
            region_windows(regions, scores.size_image),
            scores.size_image,
        )


def blank_report(regions: Regions, options: RefineOptions) -> RegionReport:
    """Of regions of which SAM has drawn nothing yet; `propose` fills it in."""
    count = len(regions)
    return RegionReport(
        classes=regions.classes,
        boxes_xyxy_image=regions.boxes_xyxy_grid * np.int32(options.downsample_ratio),
        scores=regions.scores,
        ious=np.zeros(count, np.float32),
        outcomes=np.full(count, Outcome.NO_MASK, np.int32),
        masks=np.full(count, -1, np.int32),
        gains=np.zeros(count, np.float32),
    )


def propose(
    judge: Judge,
    places: RegionPlaces,
    regions: Regions,
    decoded: DecodedBatch,
    report: RegionReport,
) -> Iterator[Proposal]:
    """The proposals of some regions, in the order of `Regions.largest_first`, of four masks each.

    None of a region of which no mask is predicted to be good enough.
    """
    asked = regions.largest_first[decoded.batch]
    report.ious[asked] = decoded.ious.max(axis=1)  # until a mask is chosen
    report.outcomes[asked[~decoded.kept]] = Outcome.LOW_IOU
    own, ious = asked[decoded.kept].tolist(), decoded.ious[decoded.kept]
    logits = to_numpy(decoded.low_res_logits)
    candidates = [
        candidates_of(places.grid, region, int(regions.classes[region]), masks, own_ious)
        for region, masks, own_ious in zip(own, logits, ious, strict=True)
    ]
    postprocessor = MaskPostprocessor.of(places.size_image, logits)
    for choice in choose_masks(candidates, judge):
        region = choice.candidates.region
        class_id, index = int(regions.classes[region]), own.index(region)
        report.masks[region], report.gains[region] = choice.mask, choice.gain
        report.ious[region] = ious[index, choice.mask]
        report.outcomes[region] = Outcome.LOW_GAIN
        if choice.gain > judge.lowest_mask_gain:
            report.outcomes[region] = Outcome.NO_CHANGE  # unless a change of it passes
            window = places.windows_image[region]
            yield proposal_of(choice, class_id, logits[index], window, postprocessor)
