"""Figures of label maps pixel by pixel, as their definitions read; and a client for made maps.

Maps are arrays (H, W), given as one for each image. A figure is None where there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from math import dist, hypot
from typing import Any

import numpy as np

from sam_refine.contract import EMBEDDING_SHAPE, Outcome, RefineOptions
from sam_refine_client import Embedding, RefineResult, Region
from sam_refine_quality import Sample

# --- Figures, pixel by pixel -----------------------------------------------------------------


def pixels(labels):
    return list(product(range(labels.shape[0]), range(labels.shape[1])))


def share(part, whole):
    return 100 * part / whole if whole else None


def mean(values):
    return sum(values) / len(values) if values else None


def miou_by_class(truths, maps, classes, void):
    """IoU of each class over images together, and their mean over the classes of the truth."""
    by_class = []
    for class_id in range(classes):
        both = either = wanted = 0
        for truth, labels in zip(truths, maps, strict=True):
            for at in pixels(truth):
                if truth[at] != void:
                    in_truth, in_map = truth[at] == class_id, labels[at] == class_id
                    both += in_truth and in_map
                    either += in_truth or in_map
                    wanted += in_truth
        by_class.append(share(both, either) if wanted else None)
    return by_class, mean([iou for iou in by_class if iou is not None])


def accuracy(truths, maps, void, counts=lambda truth, at: True):
    judged = [
        labels[at] == truth[at]
        for truth, labels in zip(truths, maps, strict=True)
        for at in pixels(truth)
        if truth[at] != void and counts(truth, at)
    ]
    return share(sum(judged), len(judged))


def is_border(truth, at):
    y, x = at
    around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return any(
        truth[other] != truth[at]
        for other in around
        if 0 <= other[0] < truth.shape[0] and 0 <= other[1] < truth.shape[1]
    )


def is_near_border(truth, at, distance_px=3):
    return any(
        is_border(truth, other) and dist(at, other) <= distance_px for other in pixels(truth)
    )


def boundary(mask, distance_px):
    """The set of a mask's pixels that erosion by 3 x 3, so many times, takes away."""
    height, width = len(mask), len(mask[0])
    eroded = mask
    for _ in range(distance_px):
        eroded = [
            [
                all(
                    0 <= y + dy < height and 0 <= x + dx < width and eroded[y + dy][x + dx]
                    for dy, dx in product((-1, 0, 1), repeat=2)
                )
                for x in range(width)
            ]
            for y in range(height)
        ]
    return {
        (y, x) for y, x in product(range(height), range(width)) if mask[y][x] and not eroded[y][x]
    }


def boundary_iou(truths, maps, classes, void):
    by_class = []
    for class_id in range(classes):
        both = either = wanted = 0
        for truth, labels in zip(truths, maps, strict=True):
            distance_px = max(1, round(0.02 * hypot(*truth.shape)))
            valid = truth != void
            of_truth = boundary(((truth == class_id) & valid).tolist(), distance_px)
            of_map = boundary(((labels == class_id) & valid).tolist(), distance_px)
            both += len(of_truth & of_map)
            either += len(of_truth | of_map)
            wanted += int(((truth == class_id) & valid).sum())
        if wanted:
            by_class.append(share(both, either))
    return mean(by_class)


def changes(truths, coarse_maps, refined_maps, void):
    valid = changed = right = wrong = 0
    for truth, coarse, refined in zip(truths, coarse_maps, refined_maps, strict=True):
        for at in pixels(truth):
            if truth[at] != void:
                valid += 1
                if coarse[at] != refined[at]:
                    changed += 1
                    right += refined[at] == truth[at]
                    wrong += coarse[at] == truth[at]
    return share(changed, valid), share(right, changed), share(wrong, changed)


# --- A client for made maps ------------------------------------------------------------------

Change = Callable[[np.ndarray, RefineOptions], np.ndarray]
"""Coarse labels (H, W) and the options to refined labels."""


class ScriptedClient:
    """`refine` changes the argmax of scores that have the image's size; `errors` come first."""

    def __init__(self, change: Change, *errors: Exception | None) -> None:
        self.change = change
        self.errors = list(errors)
        self.asked: Counter[str] = Counter()
        self.options: list[RefineOptions] = []
        self.is_same_image = False

    @contextmanager
    def same_image(self) -> Iterator[None]:
        self.is_same_image = True
        yield
        self.is_same_image = False

    def embed(self, image: np.ndarray, *, timeout_s: float | None) -> Embedding:
        assert self.is_same_image
        self.asked["embed"] += 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        values = np.broadcast_to(np.float32(0), (1, *EMBEDDING_SHAPE))
        return Embedding(values, (image.shape[0], image.shape[1]))

    def refine(
        self, *, embedding: Embedding, logits: Any, options: RefineOptions, **rest: Any
    ) -> RefineResult:
        self.asked["refine"] += 1
        self.options.append(options)
        coarse = np.asarray(logits).argmax(axis=0).astype(np.int32)
        assert coarse.shape == embedding.size_hw
        regions = [
            Region(0, (0, 0, 1, 1), 0.5, 0.5, outcome is Outcome.REFINED, outcome, -1, 0.0)
            for outcome in (Outcome.REFINED, Outcome.REFINED, Outcome.LOW_IOU)
        ]
        refined = self.change(coarse, options).astype(np.int32)
        return RefineResult(refined, coarse, None, tuple(regions), {}, "scripted")


def sample(name: str, truth: np.ndarray, coarse: np.ndarray, classes: int) -> Sample:
    """A sample whose coarse map is `coarse` (H, W)."""
    scores = (np.arange(classes)[:, None, None] == coarse).astype(np.float32)
    image = np.zeros((*coarse.shape, 3), np.uint8)
    return Sample(name, image, scores, truth, truth_name=f"truth of {name}")
