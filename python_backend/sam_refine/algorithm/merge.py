"""MapRefinement, the fallback and MapFailedRegions: kept masks and coarse scores become one map.

Each step works on one tile of the map, and `pipeline.refine` takes the tiles through all of them: a
tile's arrays stay in the processor's cache, what it sees of a mask is a small matrix product, and
only the classes whose masks reach it are looked at. Labels need no more than the best score so far
and its class: there is no (C, H, W) array unless the refined scores are asked for.

An example of 8 x 8 pixels: class 1 has one kept mask, the region of class 2 failed, class 0 has no
region (S: coarse map, #: l > 0, x: F).

    S           mask of 1   F           MapRefinement   fall_back   keep_coarse
    00000000    ........    ........    ........        00000000    00000000
    00110000    ..###...    ........    ..111...        00111000    00111000
    01111000    ..###...    ........    ..111...        01111000    01111000
    01111022    ..#####.    ......xx    ..11111.        01111112    01111122
    00110022    ..#####.    ......xx    ..11111.        00111112    00111122
    00000022    ........    ......xx    ........        00000022    00000022
    00000000    ........    ........    ........        00000000    00000000
    00000000    ........    ........    ........        00000000    00000000
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
from sam_refine.numerics.arrays import Array, Mask, Window, bands, to_like
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
class FailedArea:
    """F, the union of the failed regions, in image resolution."""

    mask: Array | None
    """(H, W) bool; None where no region failed."""
    best_classes: Array | None
    """argmax_c L, (H, W) int32, where `compete` needs it."""

    @classmethod
    def of(cls, mask_grid: Mask | None, scores: ClassScores, options: RefineOptions) -> FailedArea:
        """Resize(R_f, H, W) by nearest, of R_f (h_d, w_d); None where no region failed."""
        if mask_grid is None:
            return cls(None, None)
        mask = resize_nearest(to_like(mask_grid, scores.values), scores.size_image)
        competes = options.failed_regions is FailedRegions.COMPETE
        return cls(mask, scores.argmax() if competes else None)


@dataclass(frozen=True)
class RefinedClass:
    """L'_i of one class in a part of the image; it is 0 elsewhere in the tile."""

    class_id: int
    window: Window
    """Where, in the image."""
    refined: Array
    """L'_i: (h, w) float32."""
    coarse: Array
    """L_i: (h, w) float32."""


@dataclass(frozen=True)
class RefinedTile:
    """S' of a tile, with what the steps after MapRefinement need of L'."""

    window: Window
    """Where the tile lies in the image."""
    labels: Array
    """S': (h, w) int32."""
    best: Array
    """max_c L': (h, w) float32."""
    empty: Array
    """(h, w) bool, where sum_c L' = 0."""
    scores: tuple[RefinedClass, ...] = ()
    """L' of the classes with masks here, where it was asked for."""


@dataclass(frozen=True)
class RefinedMap:
    """S' and L', filled tile by tile."""

    labels: Array
    """S': (H, W) int32."""
    logits: Array | None
    """L': (C, H, W) float32, where it was asked for."""

    @classmethod
    def blank(cls, scores: ClassScores, failed: FailedArea, *, want_logits: bool) -> RefinedMap:
        """Labels are not set. L' is that of classes without masks, MapFailedRegions included."""
        xp, on = array_namespace(scores.values), device(scores.values)
        labels = xp.empty(scores.size_image, dtype=xp.int32, device=on)
        return cls(labels, failed_scores(failed, scores) if want_logits else None)

    def put(self, tile: RefinedTile) -> None:
        """Write a tile's labels and, where they are wanted, its scores."""
        self.labels[tile.window] = tile.labels
        if self.logits is not None:
            for part in tile.scores:
                self.logits[part.class_id][part.window] = part.refined


def unrefined_map(labels_image: Array, scores: ClassScores, *, want_logits: bool) -> RefinedMap:
    """S and L as they came, where there is nothing to refine with."""
    return RefinedMap(labels_image, scores.image() if want_logits else None)


def map_refinement(
    masks: KeptMasks, scores: ClassScores, tile: Window, *, want_scores: bool = False
) -> RefinedTile:
    """MapRefinement of a tile: S' = argmax_i L'_i, lowest class id on ties.

    L'_i is `refined_scores` for a class with masks and 0 for any other. `want_scores` keeps it.
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

    kept = []
    for class_id, window in windows.items():
        coarse = scores.plane(class_id, window)
        reach = reaching.get(class_id, {})
        refined = refined_scores(masks, class_id, reach, coarse, window, nonnegative=nonnegative)
        best.add(class_id, refined, window.inside(tile))
        if not nonnegative:
            total += refined
        if want_scores:
            kept.append(RefinedClass(class_id, window, refined, coarse))
    return RefinedTile(tile, best.class_id, best.score, total == 0, tuple(kept))


def refined_scores(
    masks: KeptMasks,
    class_id: int,
    reaching: Mapping[int, Window],
    coarse: Array,
    window: Window,
    *,
    nonnegative: bool,
) -> Array:
    """L'_i = max_k( sigmoid(l_k) * L_i ) * [any_k l_k > 0] over class i's masks k, in a window.

    `coarse` is L_i there, (h, w) float32; `nonnegative` promises that none of it is below 0. Where
    L_i >= 0 the maximum is at the highest l_k, and only masks that are positive matter: `reaching`
    has them all. Where L_i < 0 it is at the lowest, which any mask of the class may have.
    """
    xp = array_namespace(coarse)
    deciding = masks.highest(reaching, window)
    covered = deciding > 0
    if not nonnegative and xp.any(covered & (coarse < 0)):
        lowest = xp.clip(masks.lowest(class_id, window), -MAX_EXPONENT, MAX_EXPONENT)
        deciding = xp.where(coarse < 0, lowest, deciding)
    refined = _sigmoid_times(deciding, coarse)
    refined *= covered
    return refined


def _sigmoid_times(logits: Array, scores: Array) -> Array:
    """sigmoid(logits) * scores = scores / (1 + exp(-logits)); logits are >= -MAX_EXPONENT."""
    xp = array_namespace(logits)
    divisor = -logits
    xp.exp(divisor, out=divisor)
    divisor += 1
    return scores / divisor


def _around(windows: Iterable[Window]) -> Window:
    """The smallest window around all of them."""
    return Window(
        *(
            slice(min(side.start for side in sides), max(side.stop for side in sides))
            for sides in zip(*windows, strict=True)
        )
    )


def fall_back(refined: RefinedTile, coarse: Array) -> RefinedTile:
    """S' * [sum_c L'_c > 0] + S * [sum_c L'_c = 0]: the coarse label stays where L' says nothing.

    `coarse` is S in the tile, (h, w) int32.
    """
    xp = array_namespace(coarse)
    return replace(refined, labels=xp.where(refined.empty, coarse, refined.labels))


def map_failed_regions(
    refined: RefinedTile,
    coarse: Array,
    failed: FailedArea,
    scores: ClassScores,
    options: RefineOptions,
) -> RefinedTile:
    """L' <- max(L', F * L), and on F the label that `failed_regions` asks for.

    `keep_coarse`: S, in the tile `coarse`. `compete`: S where max_c L > max_c L', which is compared
    before that maximum; on a tie S' stays. `scores_only`: S'.
    """
    if failed.mask is None:
        return refined
    xp, tile = array_namespace(coarse), refined.window
    labels = refined.labels
    if options.failed_regions is not FailedRegions.SCORES_ONLY:
        wins = failed.mask[tile]
        if failed.best_classes is not None:
            wins = wins & (scores.at(failed.best_classes[tile], tile) > refined.best)
        labels = xp.where(wins, coarse, labels)
    lifted = []
    for part in refined.scores:
        on_failed = xp.where(failed.mask[part.window], part.coarse, 0)
        lifted.append(replace(part, refined=xp.maximum(part.refined, on_failed)))
    return replace(refined, labels=labels, scores=tuple(lifted))


def failed_scores(failed: FailedArea, scores: ClassScores) -> Array:
    """max(0, F * L), (C, H, W) float32: L' after MapFailedRegions wherever a class has no mask.

    Class by class: a processor writes one plane after the other several times as fast as a part of
    each in turn.
    """
    xp, on, size = array_namespace(scores.values), device(scores.values), scores.size_image
    # Not zeros: for empty arrays numpy asks for huge pages, which are several times as fast.
    result = xp.empty((len(scores), *size), dtype=xp.float32, device=on)
    if failed.mask is None:
        result[...] = 0
        return result
    factor = xp.astype(failed.mask, xp.float32)
    for class_id in range(len(scores)):
        for band in bands(size, scores.values):
            plane = scores.plane(class_id, band)
            if scores.lowest[class_id] < 0:
                plane = xp.clip(plane, 0, None)
            xp.multiply(plane, factor[band], out=result[class_id][band])
    return result


def keep_ignored(refined: RefinedTile, coarse: Array, options: RefineOptions) -> RefinedTile:
    """Pixels of `ignore_label` keep it."""
    if options.ignore_label is None:
        return refined
    xp = array_namespace(coarse)
    ignored = coarse == options.ignore_label
    return replace(refined, labels=xp.where(ignored, coarse, refined.labels))
