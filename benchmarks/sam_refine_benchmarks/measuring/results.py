"""What a benchmark hands back: claims for the table, figures, and everything raw for the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sam_refine_benchmarks.measuring.pairs import Timing, ratio, ratio_range


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    what: str
    before: str
    """What users would have otherwise, or what it is held against."""
    ours: str
    ratio: str
    value: float
    """The number that the goal is about."""
    goal: str = ""
    met: bool | None = None
    """None where there is no goal."""


@dataclass(frozen=True)
class Series:
    """A line of a figure; `low` and `high` bound each point where they are given."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def of(cls, name: str, timings: Mapping[int, Timing], scale: float) -> Series:
        """Medians with lowest and highest run, in 1 / `scale` seconds, against the keys."""
        return cls(
            name,
            tuple(timings),
            tuple(timing.median_s * scale for timing in timings.values()),
            tuple(timing.lowest_s * scale for timing in timings.values()),
            tuple(timing.highest_s * scale for timing in timings.values()),
        )


@dataclass(frozen=True)
class Figure:
    """One picture."""

    name: str
    """Of its file, without `.png`."""
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    logarithmic: bool = False
    """Both axes."""


@dataclass(frozen=True)
class Result:
    """What one benchmark found."""

    claims: tuple[Claim, ...]
    data: Mapping[str, Any]
    """For the JSON: every raw time, sizes, counts."""
    figures: tuple[Figure, ...] = ()
    remarks: tuple[str, ...] = field(default=())
    """What a reader of the table must know."""

    def to_json(self) -> dict[str, Any]:
        return {
            "claims": [asdict(claim) for claim in self.claims],
            "figures": [asdict(figure) for figure in self.figures],
            "remarks": list(self.remarks),
            **self.data,
        }


@dataclass(frozen=True)
class Measured:
    """A result, and under which conditions it came about."""

    result: Result
    duration_s: float
    others_share: float
    """Of the cores, used by processes that have nothing to do with it: 0 to 1."""

    def to_json(self) -> dict[str, Any]:
        return {
            "duration_s": self.duration_s,
            "others_share": self.others_share,
            **self.result.to_json(),
        }


def faster(
    what: str, before: Timing, ours: Timing, at_least: float | None = None, share: int = 1
) -> Claim:
    """`ours` against `before`, shown per one of `share` equal parts of the work."""
    return at_least_claim(
        what,
        milliseconds(before, share),
        milliseconds(ours, share),
        ratio(before, ours),
        at_least,
        ratio_range(before, ours),
    )


def dearer(what: str, base: Timing, costly: Timing, at_most: float, share: int = 1) -> Claim:
    """What more costs than `base`, shown per one of `share` equal parts of the work."""
    return at_most_claim(
        what,
        milliseconds(base, share),
        milliseconds(costly, share),
        ratio(costly, base),
        at_most,
        ratio_range(costly, base),
    )


def at_least_claim(
    what: str,
    before: str,
    ours: str,
    value: float,
    at_least: float | None,
    value_range: tuple[float, float] | None = None,
) -> Claim:
    """A ratio that shall not be less than `at_least`."""
    return Claim(
        what,
        before,
        ours,
        shown_ratio(value, value_range),
        value,
        "" if at_least is None else f"≥ {at_least:g}",
        None if at_least is None else value >= at_least,
    )


def at_most_claim(
    what: str,
    before: str,
    ours: str,
    value: float,
    at_most: float | None,
    value_range: tuple[float, float] | None = None,
) -> Claim:
    """A ratio that shall not be more than `at_most`."""
    return Claim(
        what,
        before,
        ours,
        shown_ratio(value, value_range),
        value,
        "" if at_most is None else f"≤ {at_most:g}",
        None if at_most is None else value <= at_most,
    )


def limit_claim(
    what: str, limit_s: float, ours: Timing, product: Timing, at_most: float | None, share: int = 1
) -> Claim:
    """`ours` against its limit; rounds are compared with the product of the same round."""
    value = ours.median_s / limit_s
    rounds = ratio_range(ours, product)
    per_product = value / ratio(ours, product)
    value_range = None if rounds is None else (rounds[0] * per_product, rounds[1] * per_product)
    limit = f"limit {duration(limit_s / share)}"
    return at_most_claim(what, limit, milliseconds(ours, share), value, at_most, value_range)


def milliseconds(timing: Timing, share: int = 1) -> str:
    """The median with two or three digits: "0.24 ms", "24 ms", "2.4 s"."""
    return duration(timing.median_s / share)


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them, with two or three digits."""
    if seconds >= 10:
        return f"{seconds:.0f} s"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    shown_ms = seconds * 1000
    return f"{shown_ms:.0f} ms" if shown_ms >= 10 else f"{shown_ms:.2g} ms"


def megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.0f} MB".replace(",", " ")


def shown_ratio(value: float, value_range: tuple[float, float] | None = None) -> str:
    """\"9.80\" or, with the lowest and highest of the rounds, "9.80 (9.10 to 10.2)"."""
    if value_range is None:
        return _three_digits(value)
    low, high = value_range
    return f"{_three_digits(value)} ({_three_digits(low)} to {_three_digits(high)})"


def _three_digits(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
