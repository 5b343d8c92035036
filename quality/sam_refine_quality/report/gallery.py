"""The images that gained and lost most, kept as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from sam_refine_client.arrays import AnyLabels, UInt8
from sam_refine_client.reading.images import ImageLike
from sam_refine_quality.evaluation import ImageOutcome, Refined
from sam_refine_quality.metrics.figures import MapFigures
from sam_refine_quality.metrics.truth import Truth

SHOWN: Final = 6
"""How many images of each kind a page shows."""


class Change(IntEnum):
    """What became of a pixel."""

    NONE = 0
    """Its label stayed, or its truth is void."""
    MADE_RIGHT = 1
    MADE_WRONG = 2
    NEITHER = 3
    """Another label, wrong before and now."""


@dataclass(frozen=True, eq=False)
class Exhibit:
    """An image with its maps, in as few bytes as hold them: there may be dozens."""

    name: str
    image: ImageLike
    coarse_labels: AnyLabels
    """(H, W)."""
    labels: AnyLabels
    """(H, W)."""
    changes: UInt8
    """(H, W) `Change` of each pixel."""
    coarse_accuracy: float
    """Percent."""
    refined_accuracy: float

    @property
    def gain(self) -> float:
        """Percentage points."""
        return self.refined_accuracy - self.coarse_accuracy

    @classmethod
    def of(cls, name: str, image: ImageLike, truth: Truth, refined: Refined) -> Exhibit:
        """What one set of options made of an image."""
        return cls(
            name,
            image,
            _compact(refined.coarse_labels),
            _compact(refined.labels),
            changes(truth, refined.coarse_labels, refined.labels),
            float(MapFigures.of(refined.coarse).accuracy),
            float(MapFigures.of(refined.refined).accuracy),
        )


class Gallery:
    """Of each option set the images whose pixel accuracy rose and fell most; others are let go."""

    def __init__(self, shown: int = SHOWN) -> None:
        self._shown = shown
        self._gained: dict[str, list[Exhibit]] = {}
        self._lost: dict[str, list[Exhibit]] = {}

    def add(self, outcome: ImageOutcome) -> None:
        """Look at an image; one that failed is not shown."""
        if outcome.sample is None or outcome.truth is None:
            return
        for name, refined in outcome.by_set.items():
            if math.isnan(refined.gain) or refined.gain == 0:
                continue
            kept = self._gained if refined.gain > 0 else self._lost
            exhibits = kept.setdefault(name, [])
            if len(exhibits) == self._shown and abs(refined.gain) <= abs(exhibits[-1].gain):
                continue
            exhibits.append(Exhibit.of(outcome.name, outcome.sample.image, outcome.truth, refined))
            exhibits.sort(key=lambda each: -abs(each.gain))  # of equals the first one first
            del exhibits[self._shown :]

    def gained(self, name: str) -> list[Exhibit]:
        """Those of an option set that gained most, the first one most."""
        return self._gained.get(name, [])

    def lost(self, name: str) -> list[Exhibit]:
        """Those of an option set that lost most, the first one most."""
        return self._lost.get(name, [])


def changes(truth: Truth, coarse_labels: AnyLabels, labels: AnyLabels) -> UInt8:
    """(H, W) `Change` of each pixel of two maps."""
    changed = truth.valid & (coarse_labels != labels)
    kinds = np.where(changed, np.uint8(Change.NEITHER), np.uint8(Change.NONE))
    kinds[changed & (labels == truth.labels)] = Change.MADE_RIGHT
    kinds[changed & (coarse_labels == truth.labels)] = Change.MADE_WRONG
    return kinds


def _compact(labels: AnyLabels) -> AnyLabels:
    return labels.astype(np.uint8) if 0 <= labels.min() <= labels.max() < 256 else labels
