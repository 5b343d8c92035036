"""The pixels that proposals would change, each with what speaks for and against it.

Proposals paint the coarse map, large regions first: a mask's pixels take the region's class, and
what the region has outside it the best class besides. An example, in which the mask (#) of class 1
moves its region to the right:

    S           mask        proposed    changes
    00000000    ........    00000000    ........
    01110000    ..###...    00111000    .x..x...
    01110000    ..###...    00111000    .x..x...
    00000000    ........    00000000    ........
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sam_refine.algorithm.judging.mask_grid import MaskGrid, depth_of
from sam_refine.algorithm.judging.proposals import Proposal
from sam_refine.algorithm.regions import Regions
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES, RefineOptions
from sam_refine.numerics.arrays import Float32, Indices, Int32, Labels
from sam_refine.numerics.resize import resize_nearest

MOST_SCORES: Final = 2**22
"""That are looked at in one go, of all classes and some pixels."""


@dataclass(frozen=True)
class Changes:
    """m pixels whose label would be another one."""

    rows: Indices
    columns: Indices
    """(m,) places in the image."""
    old: Int32
    """(m,) labels of the coarse map."""
    new: Int32
    """(m,) labels proposed."""
    regions: Int32
    """(m,) index of the region whose mask proposes it."""
    features: Float32
    """(m, len(CHANGE_FEATURES))."""

    def __len__(self) -> int:
        return len(self.rows)


def propose_changes(
    proposals: list[Proposal],
    labels_image: Labels,
    scores: ClassScores,
    regions: Regions,
    grid: MaskGrid,
    options: RefineOptions,
) -> Changes:
    """What the proposals would change of S, (H, W) int32, and what each change is like."""
    areas = np.bincount(regions.region_map.ravel() + 1, minlength=len(regions) + 1)[1:]
    ranked = sorted(proposals, key=lambda proposal: -areas[proposal.region])
    region_image = resize_nearest(regions.region_map, scores.size_image)
    proposed, painter = labels_image.copy(), np.full(labels_image.shape, -1, np.int32)
    for index, proposal in enumerate(ranked):
        _paint(proposed, painter, index, proposal, region_image, scores)
    is_change = (proposed != labels_image) & (painter >= 0)
    if options.ignore_label is not None:
        is_change &= labels_image != options.ignore_label
    rows, columns = np.nonzero(is_change)
    old, new = labels_image[rows, columns], proposed[rows, columns]
    by = painter[rows, columns]
    return Changes(
        rows,
        columns,
        old,
        new,
        np.array([proposal.region for proposal in ranked], np.int32)[by],
        _features(ranked, rows, columns, old, new, by, proposed, scores, grid),
    )


def _paint(
    proposed: Labels,
    painter: Int32,
    index: int,
    proposal: Proposal,
    region_image: Int32,
    scores: ClassScores,
) -> None:
    """Write what one proposal changes of what those before it have made of the map."""
    part = proposed[proposal.window]
    has_class = part == proposal.class_id
    mask = proposal.logits > 0
    added = mask & ~has_class
    removed = (region_image[proposal.window] == proposal.region) & ~mask & has_class
    part[added] = proposal.class_id
    if removed.any():
        rows, columns = np.nonzero(removed)
        rows += proposal.window.rows.start
        columns += proposal.window.columns.start
        part[removed] = np.concatenate(
            [_best_besides(at, proposal.class_id) for at in _in_parts(scores, rows, columns)]
        )
    painter[proposal.window][added | removed] = index


def _features(
    proposals: list[Proposal],
    rows: Indices,
    columns: Indices,
    old: Int32,
    new: Int32,
    by: Int32,
    proposed: Labels,
    scores: ClassScores,
    grid: MaskGrid,
) -> Float32:
    """(m, len(CHANGE_FEATURES)) of changes at rows, columns (m,), each by one of the proposals."""
    if len(rows) == 0:
        return np.empty((0, len(CHANGE_FEATURES)), np.float32)
    logits, consensus = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    for index, proposal in enumerate(proposals):
        own = np.flatnonzero(by == index)
        window = proposal.window
        inside = rows[own] - window.rows.start, columns[own] - window.columns.start
        logits[own], consensus[own] = proposal.logits[inside], proposal.consensus[inside]
    size_mask = grid.size_hw
    cells = (
        rows * size_mask[0] // proposed.shape[0],
        columns * size_mask[1] // proposed.shape[1],
    )
    measured: dict[str, npt.NDArray[np.generic]] = {
        **_scores_at(scores, rows, columns, old, new),
        "logit": logits,
        "consensus": consensus,
        "depth_old": grid.depth[cells],
        "depth_new": depth_of(resize_nearest(proposed, size_mask))[cells],
        "old_class": old,
        "new_class": new,
        "gain": np.array([proposal.gain for proposal in proposals], np.float32)[by],
    }
    features = np.empty((len(rows), len(CHANGE_FEATURES)), np.float32)
    for column, name in enumerate(CHANGE_FEATURES[: len(measured)]):
        features[:, column] = measured[name]
    of_mask = np.stack([proposal.features for proposal in proposals])
    shared = [MASK_FEATURES.index(name) for name in CHANGE_FEATURES[len(measured) :]]
    features[:, len(measured) :] = of_mask[:, shared][by]
    return features


def _scores_at(
    scores: ClassScores, rows: Indices, columns: Indices, old: Int32, new: Int32
) -> dict[str, npt.NDArray[np.generic]]:
    """The features that are scores of the pixel, (m,) each."""
    found: dict[str, list[Float32]] = {
        name: [] for name in ("score_old", "score_new", "score_best", "score_second")
    }
    start = 0
    for at in _in_parts(scores, rows, columns):
        part, place = slice(start, start + at.shape[1]), np.arange(at.shape[1])
        found["score_old"].append(at[old[part], place])
        found["score_new"].append(at[new[part], place])
        found["score_best"].append(at.max(axis=0))
        found["score_second"].append(np.partition(at, -2, axis=0)[-2] if len(at) > 1 else at[0])
        start = part.stop
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _best_besides(at: Float32, class_id: int) -> Int32:
    """The best class but one, of scores (C, n); that one itself where there is no other."""
    if len(at) == 1:
        return np.full(at.shape[1], class_id, np.int32)
    at[class_id] = -np.inf
    best: Int32 = at.argmax(axis=0).astype(np.int32)
    return best


def _in_parts(scores: ClassScores, rows: Indices, columns: Indices) -> Iterator[Float32]:
    """L at pixels (m,), so many pixels at a time that memory stays small: (C, n) each."""
    step = max(1, MOST_SCORES // len(scores))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        yield scores.at_pixels(rows[part], columns[part])
