"""MapRefinement, its fallback and MapFailedRegions: kept masks and coarse scores become one map.

The map is made tile by tile: a tile's arrays stay in the processor's cache, what it sees of a mask
is a small matrix product, and no class counts there but those whose masks reach it. Labels need
only the best score so far and its class: there is no (C, H, W) array unless the refined logits are
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from sam_refine.algorithm.postprocess import MaskPostprocessor
from sam_refine.algorithm.scores import ClassScores
from sam_refine.contract import FailedRegions, RefineOptions
from sam_refine.numerics.argmax import RunningBest
from sam_refine.numerics.arrays import Array, Mask, Window, bands, beside, tiles
from sam_refine.numerics.resize import resize_nearest

MAX_EXPONENT = 88
"""float32's exp ends there."""


@dataclass(frozen=True)
class KeptMasks:
    """The N kept masks of an image; N may be 0."""

    low_res_logits: Array
    """L_v: (N, h_l, w_l) float32."""
    classes: npt.NDArray[np.int32]
    """(N,) class ids."""
    postprocessor: MaskPostprocessor
    windows: npt.NDArray[np.intp]
    """(N, 2, 2) where each can be positive: rows start, stop; columns start, stop."""

    @classmethod
    def of(
        cls, low_res_logits: Array, classes: npt.NDArray[np.int32], size_image: tuple[int, int]
    ) -> KeptMasks:
        postprocessor = MaskPostprocessor.of(size_image, low_res_logits)
        windows = postprocessor.positive_windows(low_res_logits)
        return cls(low_res_logits, classes, postprocessor, windows)

    def reaching(self, tile: Window) -> dict[int, dict[int, Window]]:
        """By class id, the masks that can be positive in a tile, and where in it."""
        start = np.maximum(self.windows[..., 0], [side.start for side in tile])
        stop = np.minimum(self.windows[..., 1], [side.stop for side in tile])
        reaching: dict[int, dict[int, Window]] = {}
        for index in np.flatnonzero((start < stop).all(axis=1)).tolist():
            window = Window(*map(slice, start[index].tolist(), stop[index].tolist()))
            reaching.setdefault(int(self.classes[index]), {})[index] = window
        return reaching

    def highest(self, masks: Mapping[int, Window], around: Window) -> Array:
        """max(0, max_k l_k) over some masks k and their windows, all of them in `around`."""
        xp, on = array_namespace(self.low_res_logits), device(self.low_res_logits)
        highest = xp.zeros(around.size_hw, dtype=xp.float32, device=on)
        for index, window in masks.items():
            part = highest[window.inside(around)]
            logits = self.postprocessor.logits(self.low_res_logits[index], window)
            xp.maximum(part, logits, out=part)
        return highest

    def lowest(self, class_id: int, window: Window) -> Array:
        """min_k l_k over all masks k of a class that has any."""
        xp, on = array_namespace(self.low_res_logits), device(self.low_res_logits)
        lowest = xp.full(window.size_hw, np.inf, dtype=xp.float32, device=on)
        for index in np.flatnonzero(self.classes == class_id).tolist():
            logits = self.postprocessor.logits(self.low_res_logits[index], window)
            xp.minimum(lowest, logits, out=lowest)
        return lowest


@dataclass(frozen=True)
class RefinedMap:
    """What Algorithm 4 makes of a map."""

    labels: Array
    """S': (H, W) int32."""
    logits: Array | None
    """L': (C, H, W) float32, where it was asked for."""


@dataclass(frozen=True)
class RefinedTile:
    """S' of a tile, with what the steps after MapRefinement need of L'."""

    labels: Array
    """S': (h, w) int32."""
    best: Array
    """max_c L': (h, w) float32."""
    empty: Array
    """(h, w) bool, where sum_c L' = 0."""


def unrefined_map(labels_image: Array, scores: ClassScores, *, want_logits: bool) -> RefinedMap:
    """S and L as they came, where there is nothing to refine with."""
    return RefinedMap(labels_image, scores.image() if want_logits else None)


def merge_maps(
    low_res_logits: Array,
    classes: npt.NDArray[np.int32],
    failed_grid: Mask | None,
    scores: ClassScores,
    labels_image: Array,
    options: RefineOptions,
    *,
    want_logits: bool,
) -> RefinedMap:
    """MapRefinement, the fallback, MapFailedRegions and `ignore_label`.

    `low_res_logits` (N, h_l, w_l) and `classes` (N,) are the kept masks; `failed_grid` (h_d, w_d)
    is the union of the failed regions, None where none failed.
    """
    xp, on, size = array_namespace(scores.values), device(scores.values), scores.size_image
    masks = KeptMasks.of(low_res_logits, classes, size)
    best_classes = None
    if failed_grid is not None and options.failed_regions is FailedRegions.COMPETE:
        best_classes = scores.argmax()
    labels = xp.empty(size, dtype=xp.int32, device=on)
    failed = None
    if failed_grid is not None:
        failed = resize_nearest(beside(failed_grid, labels), size)
    logits = failed_scores(failed, scores) if want_logits else None

    for tile in tiles(size, scores.values):
        coarse = labels_image[tile]
        failed_tile = None if failed is None else failed[tile]
        out = None if logits is None else logits[:, tile.rows, tile.columns]
        refined = map_refinement(masks, scores, tile, failed_tile, out)
        refined = keep_coarse_where_empty(refined, coarse)
        if failed_tile is not None:
            best = None if best_classes is None else scores.at(best_classes[tile], tile)
            refined = map_failed_regions(refined, failed_tile, coarse, best, options)
        labels[tile] = keep_ignored(refined, coarse, options).labels
    return RefinedMap(labels, logits)


def failed_scores(failed: Array | None, scores: ClassScores) -> Array:
    """max(0, F * L) (C, H, W) float32: L' after MapFailedRegions wherever a class has no mask.

    F is `failed` (H, W) bool, or 0 where that is None. Class by class: a processor writes one plane
    after the other several times as fast as a part of each in turn.
    """
    xp, on, size = array_namespace(scores.values), device(scores.values), scores.size_image
    # Not zeros: for empty arrays numpy asks for huge pages, which are several times as fast.
    result = xp.empty((len(scores), *size), dtype=xp.float32, device=on)
    if failed is None or not xp.any(failed):
        result[...] = 0
        return result
    factor = xp.astype(failed, xp.float32)
    for class_id in range(len(scores)):
        for band in bands(size, scores.values):
            plane = scores.plane(class_id, band)
            if scores.lowest[class_id] < 0:
                plane = xp.clip(plane, 0, None)
            xp.multiply(plane, factor[band], out=result[class_id][band])
    return result


def map_refinement(
    masks: KeptMasks,
    scores: ClassScores,
    tile: Window,
    failed: Array | None = None,
    out: Array | None = None,
) -> RefinedTile:
    """L'_i = max_k(sigmoid(l_k) * L_i) * [any_k l_k > 0] over the masks k of class i; S' = argmax.

    Where L_i >= 0 the maximum is at the highest l_k, and only masks that are positive matter; where
    L_i < 0 it is at the lowest, which any mask of the class may have. On ties the lowest class id
    wins. A class without masks has L'_i = 0. `out` (C, h, w), where it is given, is `failed_scores`
    and becomes L': MapFailedRegions' max(L', F * L) where there is `failed`, F (h, w).
    """
    xp, on = array_namespace(scores.values), device(scores.values)
    reaching = masks.reaching(tile)
    windows = {class_id: _around(reaching[class_id].values()) for class_id in sorted(reaching)}
    nonnegative = all(scores.nonnegative(class_id, windows[class_id]) for class_id in windows)
    if nonnegative:  # outside its masks a class has 0 and loses: it counts in a window around them
        best = RunningBest(xp.zeros(tile.size_hw, dtype=xp.float32, device=on))
        total = best.score  # 0 where all are
    else:  # outside its masks it has 0 and may win; one class stands for all without masks
        best = RunningBest(xp.full(tile.size_hw, -np.inf, dtype=xp.float32, device=on))
        total = xp.zeros(tile.size_hw, dtype=xp.float32, device=on)
        absent = next((i for i in range(len(scores)) if i not in reaching), 0)
        windows = dict.fromkeys(sorted({absent, *reaching}), tile)

    for class_id, window in windows.items():
        highest = masks.highest(reaching.get(class_id, {}), window)
        plane = scores.plane(class_id, window)
        covered = highest > 0
        if not nonnegative and xp.any(covered & (plane < 0)):
            lowest = xp.clip(masks.lowest(class_id, window), -MAX_EXPONENT, MAX_EXPONENT)
            highest = xp.where(plane < 0, lowest, highest)
        refined = _sigmoid_times(highest, plane)
        refined *= covered
        inside = window.inside(tile)
        best.add(class_id, refined, inside)
        if not nonnegative:
            total += refined
        if out is not None:
            if failed is not None:
                refined = xp.maximum(refined, xp.where(failed[inside], plane, 0))
            out[class_id][inside] = refined
    return RefinedTile(best.class_id, best.score, total == 0)


def _sigmoid_times(logits: Array, scores: Array) -> Array:
    """sigmoid(logits) * scores = scores / (1 + exp(-logits)); logits are >= -MAX_EXPONENT."""
    xp = array_namespace(logits)
    divisor = -logits
    xp.exp(divisor, out=divisor)
    divisor += 1
    return scores / divisor


def _around(windows: Iterable[Window]) -> Window:
    """The smallest window around some."""
    return Window(
        *(
            slice(min(side.start for side in sides), max(side.stop for side in sides))
            for sides in zip(*windows, strict=True)
        )
    )


def keep_coarse_where_empty(refined: RefinedTile, coarse: Array) -> RefinedTile:
    """Fallback: where no class has a refined score, the coarse label stays."""
    xp = array_namespace(coarse)
    return replace(refined, labels=xp.where(refined.empty, coarse, refined.labels))


def map_failed_regions(
    refined: RefinedTile,
    failed: Array,
    coarse: Array,
    best_coarse: Array | None,
    options: RefineOptions,
) -> RefinedTile:
    """By `failed_regions`, the coarse label on some or all of `failed`, F.

    `compete`, which alone needs `best_coarse`, compares that, max_c L, with max_c L'; on a tie the
    refined label stays.
    """
    xp = array_namespace(coarse)
    if options.failed_regions is FailedRegions.SCORES_ONLY:
        return refined
    if best_coarse is not None:
        failed = failed & (best_coarse > refined.best)
    return replace(refined, labels=xp.where(failed, coarse, refined.labels))


def keep_ignored(refined: RefinedTile, coarse: Array, options: RefineOptions) -> RefinedTile:
    """Pixels of `ignore_label` keep it."""
    if options.ignore_label is None:
        return refined
    xp = array_namespace(coarse)
    ignored = coarse == options.ignore_label
    return replace(refined, labels=xp.where(ignored, coarse, refined.labels))
