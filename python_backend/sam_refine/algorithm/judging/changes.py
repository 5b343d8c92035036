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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from sam_refine.algorithm.judging.judge import Judge
from sam_refine.algorithm.judging.mask_grid import MaskGrid, depth_of
from sam_refine.algorithm.judging.proposals import MASKS, Proposal
from sam_refine.algorithm.regions import Regions
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES, MASK_SIDE, MOST_CHANGES
from sam_refine.numerics.arrays import Float32, Indices, Int32, Labels, Window, tiles
from sam_refine.numerics.resize import resize_nearest

LARGE: Final = 2 * MASK_SIDE
"""Pixels on the longer side of an image beyond which the judge is asked once in each cell of SAM's
masks of changes that are alike: SAM tells no more apart."""
MOST_SCORES: Final = 2**22
"""That are looked at in one go, of all classes and some pixels."""


class ProposedMap:
    """The coarse map as proposals paint it one after the other, and what has painted each pixel.

    As large as the image, however many proposals there are and however large they are.
    """

    def __init__(
        self, labels_image: Labels, scores: ClassScores, regions: Regions, grid: MaskGrid
    ) -> None:
        """Of labels (H, W) int32 and their regions; nothing is painted yet."""
        self.labels = labels_image.copy()
        self._coarse = labels_image
        self._scores = scores
        self._grid = grid
        self._region_image = resize_nearest(regions.region_map, scores.size_image)
        self._painter = np.empty(labels_image.shape, np.int32)
        self._logits = np.empty(labels_image.shape, np.float32)
        self._votes = np.empty(labels_image.shape, np.uint8)
        self._regions: list[int] = []
        self._gains: list[float] = []
        self._mask_features: list[Float32] = []

    def paint(self, proposal: Proposal) -> None:
        """Write what one proposal changes of what those before it have made of the map."""
        for tile in tiles(proposal.window.size_hw, self.labels):
            self._paint_part(proposal, tile.outside(proposal.window))
        self._regions.append(proposal.region)
        self._gains.append(proposal.gain)
        self._mask_features.append(proposal.features)

    def _paint_part(self, proposal: Proposal, window: Window) -> None:
        part = self.labels[window]
        logits = proposal.logits(window)
        has_class, mask = part == proposal.class_id, logits > 0
        added = mask > has_class
        removed = (self._region_image[window] == proposal.region) & (has_class > mask)
        touched = added | removed
        if not touched.any():
            return
        part[added] = proposal.class_id
        if removed.any():
            rows, columns = np.nonzero(removed)
            rows += window.rows.start
            columns += window.columns.start
            part[removed] = np.concatenate(
                [
                    _best_besides(at, proposal.class_id)
                    for at in _in_parts(self._scores, rows, columns)
                ]
            )
        for values, new in (
            (self._painter, np.int32(len(self._regions))),
            (self._logits, logits),
            (self._votes, proposal.votes(window, logits)),
        ):
            np.copyto(values[window], new, where=touched)

    def changes(self, ignore_label: int | None) -> Changes:
        """Where it differs from the coarse map; pixels of `ignore_label` never do."""
        is_change = self.labels != self._coarse
        if ignore_label is not None:
            is_change &= self._coarse != ignore_label
        rows, columns = np.nonzero(is_change)
        return Changes(
            rows,
            columns,
            self._coarse[rows, columns],
            self.labels[rows, columns],
            np.array(self._regions, np.int32)[self._painter[rows, columns]],
            self._scores.size_image,
            self._features_of,
        )

    @cached_property
    def _depth(self) -> Float32:
        return depth_of(resize_nearest(self.labels, self._grid.size_hw))

    def _features_of(self, rows: Indices, columns: Indices, old: Int32, new: Int32) -> Float32:
        """(m, len(CHANGE_FEATURES)) of changes at rows, columns (m,)."""
        features = np.empty((len(rows), len(CHANGE_FEATURES)), np.float32)
        if len(rows) == 0:
            return features
        by = self._painter[rows, columns]
        cells = tuple(
            place * size_mask // size_image
            for place, size_mask, size_image in zip(
                (rows, columns), self._grid.size_hw, self.labels.shape, strict=True
            )
        )
        measured: dict[str, npt.NDArray[np.generic]] = {
            **_scores_at(self._scores, rows, columns, old, new),
            "logit": self._logits[rows, columns],
            "consensus": self._votes[rows, columns] / np.float32(MASKS),
            "depth_old": self._grid.depth[cells],
            "depth_new": self._depth[cells],
            "old_class": old,
            "new_class": new,
            "gain": np.array(self._gains, np.float32)[by],
        }
        for column, name in enumerate(CHANGE_FEATURES[: len(measured)]):
            features[:, column] = measured[name]
        shared = [MASK_FEATURES.index(name) for name in CHANGE_FEATURES[len(measured) :]]
        features[:, len(measured) :] = np.stack(self._mask_features)[:, shared][by]
        return features


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
    size_image: tuple[int, int]
    _features_of: Callable[[Indices, Indices, Int32, Int32], Float32]

    def __len__(self) -> int:
        return len(self.rows)

    def features(self, which: slice | Indices = slice(None)) -> Float32:
        """(n, len(CHANGE_FEATURES)) of some of them."""
        return self._features_of(
            self.rows[which], self.columns[which], self.old[which], self.new[which]
        )

    def gains(self, judge: Judge) -> Float32:
        """(m,) what a judge foretells of each; memory does not grow with their number.

        Of a large image it is asked of one change of each kind in each block of pixels.
        """
        longer = max(self.size_image)
        side = -(-longer // MASK_SIDE) if longer > LARGE else 1
        asked, asked_of = self._one_of_each_kind_in_blocks(side)
        gains = np.empty(len(asked), np.float32)
        for start in range(0, len(asked), MOST_CHANGES):
            part = slice(start, start + MOST_CHANGES)
            gains[part] = judge.change_gains(self.features(asked[part]))
        return gains[asked_of]

    def _one_of_each_kind_in_blocks(self, side: int) -> tuple[Indices, slice | Indices]:
        """(k,) changes that stand for all, and (m,) which of them for each one.

        The first in a block of pixels with the same classes by the same region.
        """
        if side == 1:
            return np.arange(len(self)), slice(None)
        kinds = (self.rows // side) * self.size_image[1] + self.columns // side
        for values in (self.old, self.new, self.regions):
            kinds = kinds * (int(values.max(initial=0)) + 1) + values
        _, first, kind = np.unique(kinds, return_index=True, return_inverse=True)
        return first, kind


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
        best, second = _two_best(at)
        found["score_best"].append(best)
        found["score_second"].append(second)
        start = part.stop
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _two_best(at: Float32) -> tuple[Float32, Float32]:
    """The best and the second best of scores (C, n), (n,) each; the same where there is but one."""
    best = at[0].copy()
    second = best if len(at) == 1 else np.full_like(best, -np.inf)
    for plane in at[1:]:
        np.maximum(second, np.minimum(best, plane), out=second)
        np.maximum(best, plane, out=best)
    return best, second


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
