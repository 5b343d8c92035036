"""An evaluation as rows of text, for the terminal and the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from sam_refine_quality.metrics.figures import FIGURE_NAMES
from sam_refine_quality.metrics.statistics import Numbers
from sam_refine_quality.result import PairFigures, SetEvaluation

NO_FIGURE: Final = "-"


@dataclass(frozen=True)
class Row:
    """One figure of both maps, in percent; a dash where there is none."""

    name: str
    coarse: str
    refined: str
    difference: str
    """In percentage points, with its sign."""
    interval: str
    """That of the difference."""
    verdict: str
    """`better` or `worse` where the interval has zero outside, else empty."""
    coarse_share: float = 0.0
    """The figures as numbers in [0, 100], 0 where there is none: how long a bar is."""
    refined_share: float = 0.0


class Compared(Protocol):
    """A coarse and a refined map of a data set, held against the truth."""

    @property
    def figures(self) -> PairFigures:
        """Arrays (), and (C,) by class."""

    @property
    def intervals(self) -> PairFigures | None:
        """(2,), and (2, C); None where there is one image."""


def figure_rows(evaluation: Compared) -> list[Row]:
    """The figures that are one number for the data set."""
    return [_row(evaluation, title, name, None) for name, title in FIGURE_NAMES.items()]


def class_rows(evaluation: Compared, class_names: tuple[str, ...]) -> list[Row]:
    """IoU of each class."""
    return [
        _row(evaluation, class_name, "iou_by_class", index)
        for index, class_name in enumerate(class_names)
    ]


def facts(evaluation: SetEvaluation) -> dict[str, str]:
    """What was changed, kept and needed, by what people call it."""
    changed = evaluation.figures.changed
    regions = evaluation.regions_kept + evaluation.regions_failed
    return {
        "pixels changed": _percent(changed.fraction),
        "made right": f"{_percent(changed.made_right)} of these",
        "made wrong": f"{_percent(changed.made_wrong)} of these",
        "regions kept": f"{evaluation.regions_kept} of {regions}",
        "time per image": f"{evaluation.seconds_per_image:.2f} s",
    }


def _row(evaluation: Compared, title: str, name: str, index: int | None) -> Row:
    figures, intervals = evaluation.figures, evaluation.intervals

    def of(values: Numbers) -> Numbers:
        return values if index is None else values[..., index]

    coarse, refined, difference = (
        float(of(getattr(each, name)))
        for each in (figures.coarse, figures.refined, figures.difference)
    )
    low, high = math.nan, math.nan
    if intervals is not None:
        low, high = of(getattr(intervals.difference, name)).tolist()
    return Row(
        title,
        _text(coarse),
        _text(refined),
        _text(difference, "+"),
        NO_FIGURE if math.isnan(low) else f"{low:+.2f} to {high:+.2f}",
        "better" if low > 0 else "worse" if high < 0 else "",
        0.0 if math.isnan(coarse) else coarse,
        0.0 if math.isnan(refined) else refined,
    )


def _text(value: float, sign: str = "") -> str:
    return NO_FIGURE if math.isnan(value) else f"{value:{sign}.2f}"


def _percent(value: Numbers) -> str:
    return NO_FIGURE if math.isnan(value) else f"{float(value):.1f}%"
