"""A judge learned from labelled images, and what it is worth on images that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold

from sam_refine.algorithm.judging.judge import LearnedJudge
from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES
from sam_refine.numerics.arrays import Float32, Labels
from sam_refine_quality.tuning.recording import Recording
from sam_refine_quality.tuning.tables import Table, change_table, mask_table

FOLDS: Final = 5
INNER_FOLDS: Final = 3
MAX_CHANGES: Final = 200_000
"""Pixels that a judge of changes learns from, at most: neighbours have little new to say."""
SEED: Final = 0

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class TreesJudge:
    """Boosted regression trees for masks, and others for changes."""

    masks: Any
    """HistGradientBoostingRegressor, or None before any has been learned."""
    changes: Any

    @property
    def lowest_mask_gain(self) -> float:
        return LearnedJudge.lowest_mask_gain

    def mask_gains(self, features: Float32) -> Float32:
        return _predict(self.masks, features)

    def change_gains(self, features: Float32) -> Float32:
        return _predict(self.changes, features)


def _predict(trees: Any, features: Float32) -> Float32:
    if len(features) == 0:
        return np.empty(0, np.float32)
    gains: Float32 = trees.predict(features).astype(np.float32)
    return gains


def learn(
    recordings: Sequence[Recording], groups: Sequence[Hashable], hidden: Collection[str] = ()
) -> TreesJudge:
    """A judge for the network whose coarse maps these are.

    The judge of changes learns from proposals for images that their judge of masks has not seen:
    on images that it knows it would look better than it is. `hidden` are names of features that it
    is to do without.
    """
    tables = [mask_table(recording).hiding(hidden, MASK_FEATURES) for recording in recordings]
    everything = list(range(len(recordings)))
    changes: list[Table] = []
    inner = folds(groups, INNER_FOLDS) if len(set(groups)) > 1 else [(everything, everything)]
    for train, test in inner:
        proposer = TreesJudge(grow_trees([tables[i] for i in train], min_samples_leaf=20), None)
        changes += [
            change_table(recordings[i], proposer).hiding(hidden, CHANGE_FEATURES) for i in test
        ]
    return TreesJudge(
        grow_trees(tables, min_samples_leaf=20),
        grow_trees([_sample(changes)], min_samples_leaf=100),
    )


def cross_validate(
    recordings: Sequence[Recording],
    groups: Sequence[Hashable],
    least_gains: Sequence[float],
    on_step: OnStep = lambda step: None,
    hidden: Collection[str] = (),
) -> list[list[Labels]]:
    """The maps of each image by a judge that was learned from images of other groups.

    One at each of `least_gains`, for each of the recordings. `hidden` as of `learn`.
    """
    maps: dict[int, list[Labels]] = {}
    parts = folds(groups, FOLDS)
    for number, (train, test) in enumerate(parts, start=1):
        on_step(
            f"learn from {len(train)} images, try on {len(test)}: part {number} of {len(parts)}"
        )
        judge = learn([recordings[i] for i in train], [groups[i] for i in train], hidden)
        for i in test:
            maps[i] = recordings[i].refined(judge, least_gains)
    return [maps[i] for i in range(len(recordings))]


def folds(groups: Sequence[Hashable], count: int) -> list[tuple[list[int], list[int]]]:
    """Indices to learn from and to try on, `count` times; a group is never on both sides.

    With fewer groups than that, as many as there are groups.
    """
    ids = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    numbers = np.array([ids[group] for group in groups])
    splits = GroupKFold(min(count, len(ids))).split(numbers, groups=numbers)
    return [(train.tolist(), test.tolist()) for train, test in splits]


def grow_trees(tables: Sequence[Table], *, min_samples_leaf: int) -> HistGradientBoostingRegressor:
    """Boosted trees that foretell gains from the features of tables, all of the same columns."""
    features = np.concatenate([table.features for table in tables])
    gains = np.concatenate([table.gains for table in tables])
    if len(gains) == 0:  # nobody knows what it would gain, so nothing is to change
        features, gains = np.zeros((1, features.shape[1]), np.float32), np.full(1, -1, np.float32)
    trees = HistGradientBoostingRegressor(
        max_iter=150,
        max_leaf_nodes=15,
        learning_rate=0.06,
        min_samples_leaf=min_samples_leaf,
        max_features=0.7,
        early_stopping=False,
        random_state=SEED,
    )
    return trees.fit(features, gains)


def _sample(tables: Sequence[Table]) -> Table:
    """MAX_CHANGES of all examples, at random."""
    features = np.concatenate([table.features for table in tables])
    gains = np.concatenate([table.gains for table in tables])
    if len(gains) > MAX_CHANGES:
        chosen = np.random.default_rng(SEED).choice(len(gains), MAX_CHANGES, replace=False)
        features, gains = features[chosen], gains[chosen]
    return Table(features, gains)
