"""The images that gained and lost most, kept as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from sam_refine_client.images import ImageLike
from sam_refine_quality.evaluation import ImageOutcome, Refined
from sam_refine_quality.metrics.truth import Truth

SHOWN: Final = 6
"""How many images of each kind a page shows."""


@dataclass(frozen=True, eq=False)
class Exhibit:
    """An image with its maps."""

    name: str
    image: ImageLike
    truth: Truth
    refined: Refined


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
            exhibit = Exhibit(outcome.name, outcome.sample.image, outcome.truth, refined)
            kept = self._gained if refined.gain > 0 else self._lost
            exhibits = [*kept.get(name, ()), exhibit]
            exhibits.sort(key=lambda each: -abs(each.refined.gain))  # of equals the first one first
            kept[name] = exhibits[: self._shown]

    def gained(self, name: str) -> list[Exhibit]:
        """Those of an option set that gained most, the first one most."""
        return self._gained.get(name, [])

    def lost(self, name: str) -> list[Exhibit]:
        """Those of an option set that lost most, the first one most."""
        return self._lost.get(name, [])
