"""What a judge learns from: features of masks and of changes, each with what it really gains."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from sam_refine.algorithm.judging.candidates import MaskParts, candidates_of
from sam_refine.algorithm.judging.judge import Judge
from sam_refine.algorithm.judging.mask_grid import MaskGrid
from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES
from sam_refine.numerics.arrays import Float32, Labels, Mask
from sam_refine.numerics.resize import resize_nearest
from sam_refine_quality.tuning.recording import Recording


@dataclass(frozen=True)
class Table:
    """n examples."""

    features: Float32
    """(n, F)."""
    gains: Float32
    """(n,) the share that turns right minus the share that turns wrong, in [-1, 1]."""

    def hiding(self, hidden: Collection[str], names: Sequence[str]) -> Table:
        """0 in the columns that are `hidden` by name: trees that grow from it never ask them."""
        features = self.features.copy() if hidden else self.features
        for column, name in enumerate(names):
            if name in hidden:
                features[:, column] = 0
        return Table(features, self.gains)


def mask_table(recording: Recording) -> Table:
    """Every mask that would change anything whose truth is known."""
    features, gains = [np.empty((0, len(MASK_FEATURES)), np.float32)], [np.empty(0, np.float32)]
    if len(recording.regions) > 0:
        grid = recording.places().grid
        truth = resize_nearest(recording.truth.labels, grid.size_hw)
        is_valid = resize_nearest(recording.truth.valid, grid.size_hw)
        for region, logits, ious in recording.masks():
            class_id = int(recording.regions.classes[region])
            candidates = candidates_of(grid, region, class_id, logits, ious)
            parts = MaskParts.of(grid, region, class_id, logits)
            real = _real_gains(grid, parts, class_id, truth, is_valid)[candidates.masks]
            known = np.isfinite(real)
            features.append(candidates.features[known])
            gains.append(real[known])
    return Table(np.concatenate(features), np.concatenate(gains))


def _real_gains(
    grid: MaskGrid, parts: MaskParts, class_id: int, truth: Labels, is_valid: Mask
) -> Float32:
    """What each of four masks gains, (4,); NaN where it changes nothing whose truth is known."""
    window = parts.window
    truth_here, valid = truth[window].ravel(), is_valid[window].ravel()
    labels = grid.labels[window].ravel()
    best, second = grid.best_class[window].ravel(), grid.second_class[window].ravel()
    other = np.where(best == class_id, second, best)
    is_class = truth_here == class_id
    on_added = is_class.astype(np.int8) - (truth_here == labels)
    on_removed = (truth_here == other).astype(np.int8) - is_class
    added, removed = parts.added & valid, parts.removed & valid
    count = added.sum(axis=1) + removed.sum(axis=1)
    total = (added * on_added).sum(axis=1) + (removed * on_removed).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def change_table(recording: Recording, judge: Judge) -> Table:
    """Every change that a judge of masks would propose, of pixels whose truth is known."""
    if len(recording.regions) == 0:
        return Table(np.empty((0, len(CHANGE_FEATURES)), np.float32), np.empty(0, np.float32))
    changes = recording.changes(judge)
    truth = recording.truth.labels[changes.rows, changes.columns]
    known = recording.truth.valid[changes.rows, changes.columns]
    gains = (changes.new == truth).astype(np.float32) - (changes.old == truth)
    return Table(changes.features(np.flatnonzero(known)), gains[known])
