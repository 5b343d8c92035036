"""MapRefinement and MapFailedRegions: kept masks and coarse scores become one map.

Classes are merged one after the other into a running best, so labels need no (C, H, W) array.
Where no score is negative, a mask matters only where it is positive, and the maximum over the masks
of a class of sigmoid(l) * L is sigmoid(max l) * L: each mask is resized inside the window of its
positive part only. Negative scores take the general formula.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sam_refine.contract import FailedRegions, RefineOptions
from sam_refine.postprocess import MaskPostprocessor
from sam_refine.resize import Float32, Window, full_window
from sam_refine.scores import ClassScores, Labels

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RefinedMap:
    """S' and L', with what the steps after MapRefinement need of L'."""

    labels: Labels
    """S': (H, W) int32."""
    best: Float32
    """max_c L': (H, W)."""
    empty: Mask
    """(H, W) where sum_c L' = 0."""
    logits: Float32 | None
    """L': (C, H, W), where it was asked for."""


def unrefined_map(labels_image: Labels, scores: ClassScores, *, want_logits: bool) -> RefinedMap:
    """S and L as they came, where there is nothing to refine with."""
    size = scores.size_image
    logits = scores.image() if want_logits else None
    return RefinedMap(labels_image, np.zeros(size, np.float32), np.ones(size, np.bool_), logits)


def map_refinement(
    low_res_logits: Float32,
    classes: npt.NDArray[np.int32],
    scores: ClassScores,
    *,
    want_logits: bool,
) -> RefinedMap:
    """L'_i = max_k(sigmoid(l_k) * L_i) * [any_k l_k > 0] over the masks k of class i; S' = argmax.

    `low_res_logits` (N, 256, 256) and `classes` (N,) are the kept masks; N may be 0. On ties the
    lowest class id wins. A class without masks has L'_i = 0.
    """
    size = scores.size_image
    best = np.zeros(size, np.float32)
    labels = np.zeros(size, np.int32)
    refined = np.zeros((len(scores), *size), np.float32) if want_logits else None
    general = not scores.nonnegative
    total = np.zeros(size, np.float32) if general else best
    refine_class = _refine_class_general if general else _refine_class

    for class_id in range(len(scores)):
        masks = low_res_logits[classes == class_id]
        if not len(masks) and not general:
            continue
        window, plane = refine_class(masks, class_id, scores)
        better = (plane > best[window]) if class_id else np.ones(plane.shape, bool)
        labels[window][better] = class_id
        best[window][better] = plane[better]
        if general:
            total += plane
        if refined is not None:
            refined[class_id][window] = plane
    return RefinedMap(labels, best, total == 0, refined)


def _refine_class(masks: Float32, class_id: int, scores: ClassScores) -> tuple[Window, Float32]:
    """L'_i of a class whose scores are not negative, in the window where it is not zero."""
    postprocessor = MaskPostprocessor.of(scores.size_image)
    windows = [postprocessor.positive_window(mask) for mask in masks]
    union = _union(windows)
    highest = np.full(union.size_hw, -np.inf, np.float32)
    for mask, window in zip(masks, windows, strict=True):
        if min(window.size_hw):
            part = highest[_inside(window, union)]
            np.maximum(part, postprocessor.logits(mask, window), out=part)
    refined = _sigmoid(highest) * scores.plane(class_id, union)
    refined[highest <= 0] = 0
    return union, refined


def _refine_class_general(
    masks: Float32, class_id: int, scores: ClassScores
) -> tuple[Window, Float32]:
    """L'_i of a class whose scores may be negative, on the whole map.

    Where L_i < 0 the maximum over k of sigmoid(l_k) * L_i is at the lowest l_k, which any mask of
    the class may have; that counts where some mask is positive only.
    """
    refined = np.zeros(scores.size_image, np.float32)
    postprocessor = MaskPostprocessor.of(scores.size_image)
    union = _union([postprocessor.positive_window(mask) for mask in masks])
    if min(union.size_hw):
        highest = np.full(union.size_hw, -np.inf, np.float32)
        lowest = np.full(union.size_hw, np.inf, np.float32)
        for mask in masks:
            mask_logits = postprocessor.logits(mask, union)
            np.maximum(highest, mask_logits, out=highest)
            np.minimum(lowest, mask_logits, out=lowest)
        plane = scores.plane(class_id, union)
        part = _sigmoid(np.where(plane < 0, lowest, highest)) * plane
        part[highest <= 0] = 0
        refined[union] = part
    return full_window(scores.size_image), refined


def keep_coarse_where_empty(refined: RefinedMap, labels_image: Labels) -> RefinedMap:
    """Fallback: where no class has a refined score, the coarse label stays."""
    return replace(refined, labels=np.where(refined.empty, labels_image, refined.labels))


def map_failed_regions(
    refined: RefinedMap,
    failed: Mask,
    scores: ClassScores,
    labels_image: Labels,
    options: RefineOptions,
) -> RefinedMap:
    """L' <- max(L', F * L) and, by `failed_regions`, the coarse label on some or all of F.

    `failed` is F (H, W), the union of the failed regions. `compete` compares max_c L with max_c L'
    as it was before that maximum; on a tie the refined label stays.
    """
    labels, rule = refined.labels, options.failed_regions
    if rule is FailedRegions.KEEP_COARSE:
        labels = np.where(failed, labels_image, labels)
    elif rule is FailedRegions.COMPETE:
        labels = np.where(failed & (scores.best() > refined.best), labels_image, labels)
    logits = refined.logits
    if logits is not None:
        logits = logits.copy()
        for class_id, plane in enumerate(scores.planes()):
            np.maximum(logits[class_id], failed * plane, out=logits[class_id])
    return replace(refined, labels=labels, logits=logits)


def keep_ignored(refined: RefinedMap, labels_image: Labels, options: RefineOptions) -> RefinedMap:
    """Pixels of `ignore_label` keep it."""
    if options.ignore_label is None:
        return refined
    ignored = labels_image == options.ignore_label
    return replace(refined, labels=np.where(ignored, labels_image, refined.labels))


def _sigmoid(x: Float32) -> Float32:
    """1 / (1 + exp(-x)); exact enough at +-88, where float32 exp ends."""
    return 1 / (1 + np.exp(-np.clip(x, -88, 88)))


def _union(windows: list[Window]) -> Window:
    """The smallest window around all that are not empty; empty where all are."""
    filled = [window for window in windows if min(window.size_hw)]
    if not filled:
        return Window(slice(0, 0), slice(0, 0))
    return Window(
        *(
            slice(min(side.start for side in sides), max(side.stop for side in sides))
            for sides in zip(*filled, strict=True)
        )
    )


def _inside(window: Window, outer: Window) -> Window:
    """`window` counted from the corner of `outer`."""
    return Window(
        *(
            slice(side.start - start.start, side.stop - start.start)
            for side, start in zip(window, outer, strict=True)
        )
    )
