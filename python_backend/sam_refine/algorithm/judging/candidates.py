"""The four masks that SAM draws for a region, each a candidate, measured on the mask grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_refine.algorithm.judging.mask_grid import MaskGrid
from sam_refine.contract import MASK_FEATURES
from sam_refine.numerics.arrays import Float32, Mask, Window


@dataclass(frozen=True)
class MaskParts:
    """What the masks of a region have to do with it, in a window of the grid; maps are flat."""

    window: Window
    """Around the region and all of its masks."""
    logits: Float32
    """(4, n)."""
    inside: Mask
    """R: (n,) cells of the region."""
    own: Mask
    """(n,) cells of its class."""
    mask: Mask
    """M: (4, n) bool."""
    added: Mask
    """A: (4, n) bool, what takes the class."""
    removed: Mask
    """D: (4, n) bool, what loses it."""

    @classmethod
    def of(cls, grid: MaskGrid, region: int, class_id: int, low_res_logits: Float32) -> MaskParts:
        """Of the masks (4, h_l, w_l) of a region."""
        height, width = grid.size_hw
        logits = low_res_logits[:, :height, :width]
        window = _around(grid.windows[region], logits > 0)
        inside = (grid.region_map[window] == region).ravel()
        own = (grid.labels[window] == class_id).ravel()
        part = logits[(slice(None), *window)].reshape(len(logits), -1)
        mask = part > 0
        return cls(window, part, inside, own, mask, mask & ~own, inside & ~mask)

    @property
    def changing(self) -> list[int]:
        """Which of the four would change anything; none for a region without a cell of its own."""
        if not self.inside.any():
            return []
        changing: list[int] = np.flatnonzero((self.added | self.removed).any(axis=1)).tolist()
        return changing


@dataclass(frozen=True)
class Candidates:
    """Of one region: which of its masks would change anything, and what they are like."""

    region: int
    masks: list[int]
    """n of SAM's four."""
    features: Float32
    """(n, len(MASK_FEATURES))."""


def candidates_of(
    grid: MaskGrid, region: int, class_id: int, low_res_logits: Float32, ious: Float32
) -> Candidates:
    """Measure the masks of a region: logits (4, h_l, w_l) and their predicted IoUs (4,).

    A region without a cell of its own on the grid is too small for SAM's masks: it has none.
    """
    parts = MaskParts.of(grid, region, class_id, low_res_logits)
    masks = parts.changing
    if not masks:
        return Candidates(region, [], np.empty((0, len(MASK_FEATURES)), np.float32))
    measured = _measure(grid, class_id, ious, parts)
    features = np.stack([measured[name] for name in MASK_FEATURES], axis=1)[masks]
    return Candidates(region, masks, features.astype(np.float32))


def _measure(
    grid: MaskGrid, class_id: int, ious: Float32, parts: MaskParts
) -> dict[str, npt.NDArray[np.generic]]:
    """Every feature of the four masks, (4,) each."""
    inside, mask, added, removed = parts.inside, parts.mask, parts.added, parts.removed
    score, best, second, depth = (
        plane[parts.window].ravel()
        for plane in (grid.scores[class_id], grid.best, grid.second, grid.depth)
    )
    share = mask.mean(axis=0, dtype=np.float32)
    certainty = np.abs(parts.logits)
    area, area_added, area_removed = (
        each.sum(axis=1).astype(np.float32) for each in (mask, added, removed)
    )
    region_area = np.float32(inside.sum())
    overlap = (mask & inside).sum(axis=1).astype(np.float32)

    def mean(part: Mask, values: Float32) -> Float32:
        """The mean of `values` in each of four sets; NaN where one is empty."""
        with np.errstate(invalid="ignore", divide="ignore"):
            count = part.sum(axis=1).astype(np.float32)
            means: Float32 = (part * values).sum(axis=1) / count
            return means

    by_iou = np.empty(len(ious), np.float32)
    by_iou[np.argsort(-ious, kind="stable")] = np.arange(len(ious))
    high, low = (parts.logits > 1).sum(axis=1), (parts.logits > -1).sum(axis=1)
    both = mask.astype(np.float32) @ mask.T.astype(np.float32)
    either = np.maximum(area[:, None] + area - both, 1)
    same = (both / either).sum(axis=1) - np.diag(both) / np.diag(either)
    return {
        "predicted_iou": ious,
        "rank": by_iou,
        "mask": np.arange(len(ious), dtype=np.float32),
        "class_id": np.full(len(ious), class_id, np.float32),
        "region_iou": overlap / (area + region_area - overlap),
        "region_recall": overlap / region_area,
        "region_precision": overlap / np.maximum(area, 1),
        "own_share": (mask & parts.own).sum(axis=1) / np.maximum(area, 1),
        "log_region": np.full(len(ious), np.log(region_area)),
        "log_mask": np.log(np.maximum(area, 1)),
        "log_added": np.log1p(area_added),
        "log_removed": np.log1p(area_removed),
        "added_share": area_added / region_area,
        "removed_share": area_removed / region_area,
        "score_mask": mean(mask, score),
        "score_region": np.full(len(ious), score[inside].mean()),
        "score_added": mean(added, score),
        "score_removed": mean(removed, score),
        "margin_added": mean(added, best - score),
        "best_removed": mean(removed, best),
        "second_removed": mean(removed, second),
        "stability": high / np.maximum(low, 1),
        "certainty_added": mean(added, certainty),
        "certainty_removed": mean(removed, certainty),
        "consensus_added": mean(added, share),
        "consensus_removed": mean(removed, 1 - share),
        "agreement": same / max(1, len(ious) - 1),
        "depth_added": mean(added, depth),
        "depth_removed": mean(removed, depth),
    }


def _around(window: Window, masks: Mask) -> Window:
    """The smallest window around another one and all cells of masks (4, h, w)."""
    sides = []
    for side, axes in zip(window, ((0, 2), (0, 1)), strict=True):
        cells = np.flatnonzero(masks.any(axis=axes))
        start, stop = (int(cells[0]), int(cells[-1]) + 1) if len(cells) else (side.start, side.stop)
        if side.start < side.stop:
            start, stop = min(start, side.start), max(stop, side.stop)
        sides.append(slice(start, stop))
    return Window(*sides)
