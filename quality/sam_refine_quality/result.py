"""What `evaluate` returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_refine.contract import RefineOptions
from sam_refine_quality.metrics.bootstrap import CONFIDENCE, interval
from sam_refine_quality.metrics.figures import ChangeFigures, Figures, MapFigures
from sam_refine_quality.metrics.statistics import ChangeSums, MapSums, Numbers


@dataclass(frozen=True, eq=False)
class PairFigures:
    """Figures of the coarse and the refined map: arrays (...), in percent."""

    coarse: MapFigures
    refined: MapFigures
    difference: MapFigures
    """Refined minus coarse, in percentage points."""
    changed: ChangeFigures

    @classmethod
    def of(cls, coarse: MapSums, refined: MapSums, changed: ChangeSums) -> PairFigures:
        """Of sums with the same axes."""
        before, after = MapFigures.of(coarse), MapFigures.of(refined)
        return cls(before, after, after.minus(before), ChangeFigures.of(changed))

    def intervals(self) -> PairFigures:
        """Of resamples (R, ...) the ends (2, ...) of 95 % intervals."""
        return PairFigures(
            self.coarse.each(interval),
            self.refined.each(interval),
            self.difference.each(interval),
            self.changed.each(interval),
        )

    def to_json(
        self, class_names: tuple[str, ...], number: Callable[[Numbers], Any]
    ) -> dict[str, Any]:
        """By the names of the fields; `number` makes of a figure what stands in the file."""
        return {
            field.name: _json_of(getattr(self, field.name), class_names, number)
            for field in fields(self)
        }


@dataclass(frozen=True, eq=False)
class SetEvaluation:
    """What a set of options made of the whole data set."""

    options: RefineOptions
    figures: PairFigures
    """Arrays (), and (C,) by class."""
    intervals: PairFigures | None
    """Arrays (2,), and (2, C) by class: low and high ends. None for one image, which says nothing
    of others."""
    confusion_coarse: npt.NDArray[np.int64]
    """(C, C + 1) pixels: rows are classes of the truth, columns those of the map, the last one is
    what is no class."""
    confusion_refined: npt.NDArray[np.int64]
    regions_kept: int
    regions_failed: int
    seconds_per_image: float
    """Mean time of a call that refines, from an embedding. Sets that ask the same have the time of
    the one call that was made for all of them."""


@dataclass(frozen=True)
class SetImage:
    """What a set of options made of one image."""

    coarse_accuracy: float
    """Percent; NaN where all of the truth is void."""
    refined_accuracy: float
    changed: float
    regions_kept: int
    regions_failed: int
    seconds: float


@dataclass(frozen=True)
class ImageEvaluation:
    """One image."""

    name: str
    valid_pixels: int
    """Pixels whose truth is not void."""
    option_sets: Mapping[str, SetImage]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Whether refined maps are better than coarse ones."""

    option_sets: Mapping[str, SetEvaluation]
    """By the names of the sets, in their order."""
    images: tuple[ImageEvaluation, ...]
    """Those that were evaluated, in their order."""
    failed: Mapping[str, str]
    """The names of the others, and why."""
    class_names: tuple[str, ...]
    """Of classes 0 to C - 1: those that were given, or the ids as texts."""
    ignore_label: int | None
    """What void is in the truth."""
    embed_seconds_per_image: float
    resamples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """All of it but the confusion matrices, for `json.dump`. Figures are percentages with four
        decimals, None where there is none; intervals are [low, high], or None."""
        return {
            "option_sets": {
                name: {
                    **each.figures.to_json(self.class_names, number_of),
                    "intervals": None
                    if each.intervals is None
                    else each.intervals.to_json(self.class_names, ends_of),
                    "regions": {"kept": each.regions_kept, "failed": each.regions_failed},
                    "seconds_per_image": round(each.seconds_per_image, 4),
                }
                for name, each in self.option_sets.items()
            },
            "options": {
                name: each.options.to_parameters() for name, each in self.option_sets.items()
            },
            "images": len(self.images),
            "failed": dict(self.failed),
            "valid_pixels": sum(image.valid_pixels for image in self.images),
            "classes": list(self.class_names),
            "ignore_label": self.ignore_label,
            "embed_seconds_per_image": round(self.embed_seconds_per_image, 4),
            "bootstrap": {
                "confidence": CONFIDENCE,
                "resamples": self.resamples,
                "seed": self.seed,
            },
            "by_image": [
                {
                    "image": image.name,
                    "valid_pixels": image.valid_pixels,
                    "option_sets": {
                        name: {
                            "coarse_accuracy": number_of(np.array(each.coarse_accuracy)),
                            "refined_accuracy": number_of(np.array(each.refined_accuracy)),
                            "changed": number_of(np.array(each.changed)),
                            "regions": {"kept": each.regions_kept, "failed": each.regions_failed},
                            "seconds": round(each.seconds, 4),
                        }
                        for name, each in image.option_sets.items()
                    },
                }
                for image in self.images
            ],
        }


def _json_of(
    figures: Figures, class_names: tuple[str, ...], number: Callable[[Numbers], Any]
) -> dict[str, Any]:
    values = {field.name: getattr(figures, field.name) for field in fields(figures)}
    return {
        name: {
            class_name: number(value[..., index]) for index, class_name in enumerate(class_names)
        }
        if name == "iou_by_class"
        else number(value)
        for name, value in values.items()
    }


def number_of(value: Numbers) -> float | None:
    """A figure as JSON has it."""
    return None if math.isnan(value) else round(float(value), 4)


def ends_of(ends: Numbers) -> list[float] | None:
    """The ends of an interval as JSON has them."""
    return None if np.isnan(ends).any() else [round(end, 4) for end in ends.tolist()]
