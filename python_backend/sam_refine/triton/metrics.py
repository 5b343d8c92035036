"""What `sam_refine` counts and measures, for Prometheus: one row a metric.

`docs/metrics.md` explains each row to who runs a server. All instances of the model, each in a
process of its own, report into the same metrics of the server: what they count adds up, and of a
gauge the last value stays.

A wrong call of Triton's metrics (a negative increment, say) makes the whole server abort, even
where the exception is caught; NaN makes a sum NaN for ever. So nobody but `Metric` calls them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import triton_python_backend_utils as pb_utils

from sam_refine.algorithm.pipeline import Refinement
from sam_refine.contract import STAGES
from sam_refine.triton.requests import FailureReason


class Kind(str, Enum):
    """Prometheus's kinds of metrics; the values are Triton's operation on each."""

    COUNTER = "increment"
    GAUGE = "set"
    HISTOGRAM = "observe"


@dataclass(frozen=True)
class Row:
    """One metric."""

    name: str
    kind: Kind
    description: str
    label: str = ""
    """The name of its label; none where it is empty."""
    label_values: tuple[str, ...] = ("",)
    """All values that the label may have."""
    buckets: tuple[float, ...] = ()
    """A histogram's upper bounds, rising; beyond the last it goes on to infinity."""


REGIONS: Final = Row(
    "sam_refine_regions_total",
    Kind.COUNTER,
    "Components of coarse maps: kept (refined by a mask), failed (no mask was taken), "
    "dropped (smaller than min_region_area, never tried)",
    "result",
    ("kept", "failed", "dropped"),
)
STAGE_SECONDS: Final = Row(
    "sam_refine_stage_duration_seconds",
    Kind.HISTOGRAM,
    "Time of a refinement's stages, of those that it had",
    "stage",
    STAGES,
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
CHANGED_RATIO: Final = Row(
    "sam_refine_changed_pixels_ratio",
    Kind.HISTOGRAM,
    "Share of an image's pixels that got another label than in the coarse map",
    buckets=(0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
)
FAILURES: Final = Row(
    "sam_refine_request_failures_total",
    Kind.COUNTER,
    "Requests that sam_refine answered with an error, by reason",
    "reason",
    tuple(reason.value for reason in FailureReason),
)
LOOKUPS: Final = Row(
    "sam_refine_embedding_cache_lookups_total",
    Kind.COUNTER,
    "Image embeddings looked up in the cache, by result",
    "result",
    ("hit", "miss"),
)
EMBEDDINGS: Final = Row(
    "sam_refine_embedding_cache_entries",
    Kind.GAUGE,
    "Image embeddings in the cache, which all instances share",
)
ROWS: Final = (REGIONS, STAGE_SECONDS, CHANGED_RATIO, FAILURES, LOOKUPS, EMBEDDINGS)


class Metric:
    """One row at the server: what cannot be right is logged and dropped before it gets there."""

    def __init__(self, row: Row) -> None:
        """Every value of the label is there from the start, with 0."""
        self._row = row
        self._series: dict[str, Any] = {}
        kind = getattr(pb_utils.MetricFamily, row.kind.name, None)
        if kind is None:
            self._warn("this server has no metrics of its kind")
            return
        self._family = pb_utils.MetricFamily(row.name, row.description, kind)
        buckets = {"buckets": list(row.buckets)} if row.buckets else {}
        for value in row.label_values:
            labels = {row.label: value} if row.label else {}
            self._series[value] = self._family.Metric(labels=labels, **buckets)

    def record(self, value: float, label_value: str = "") -> None:
        """Add to a counter, set a gauge, observe for a histogram: finite and at least 0.

        Never raises: a metric is no reason to fail a request.
        """
        if label_value not in self._row.label_values:
            self._warn(f"{self._row.label or 'label'} must be known, got {label_value!r:.80}")
        elif not _is_measure(value):
            self._warn(f"a value must be finite and >= 0, got {value!r:.80}")
        elif label_value in self._series and not (self._row.kind is Kind.COUNTER and value == 0):
            try:
                getattr(self._series[label_value], self._row.kind.value)(float(value))
            except pb_utils.TritonModelException as error:  # the server's end, for one
                self._warn(str(error))

    def _warn(self, text: str) -> None:
        pb_utils.Logger.log_warn(f"metric {self._row.name}: {text}; dropped")


def _is_measure(value: object) -> bool:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return math.isfinite(number) and number >= 0


class RefineMetrics:
    """Everything that an instance of `sam_refine` reports."""

    def __init__(self) -> None:
        self._metrics = {row: Metric(row) for row in ROWS}

    def refined(self, refinement: Refinement) -> None:
        """Count what a refinement did."""
        kept = int(refinement.regions.kept.sum())
        regions = self._metrics[REGIONS]
        regions.record(kept, "kept")
        regions.record(len(refinement.regions.kept) - kept, "failed")
        regions.record(refinement.dropped_components, "dropped")
        for stage, time_ms in zip(STAGES, refinement.stage_times_ms.tolist(), strict=True):
            if time_ms > 0:  # what is skipped is no stage that took no time
                self._metrics[STAGE_SECONDS].record(time_ms / 1000, stage)
        changed = refinement.changed_share()
        if changed is not None:
            self._metrics[CHANGED_RATIO].record(changed)

    def failed(self, reason: FailureReason) -> None:
        """Count a request without outputs."""
        self._metrics[FAILURES].record(1, reason.value)

    def looked_up(self, *, hit: bool) -> None:
        """Count a look into the embedding cache."""
        self._metrics[LOOKUPS].record(1, "hit" if hit else "miss")

    def stored(self, embeddings: int) -> None:
        """How many embeddings the cache has now."""
        self._metrics[EMBEDDINGS].record(embeddings)
