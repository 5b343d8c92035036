"""Each row against Prometheus's rules and the page; what no wrong call passes."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from sam_refine.algorithm.pipeline import Refinement, RegionReport
from sam_refine.contract import STAGES, Outcome
from sam_refine.triton.metrics import (
    CHANGED_RATIO,
    EMBEDDINGS,
    FAILURES,
    LOOKUPS,
    REGIONS,
    ROWS,
    STAGE_SECONDS,
    Kind,
    Metric,
    RefineMetrics,
)
from sam_refine.triton.requests import FailureReason
from sam_refine_deploy.supervisor.status import Status
from support.fake_stub import LOG, SERIES, MetricFamily, TritonModelException

NO_TIMES_MS = (0,) * len(STAGES)
PAGE = (Path(__file__).parents[4] / "docs/metrics.md").read_text(encoding="utf-8")


def values(row, label_value=""):
    """What was reported of a row, call by call."""
    return SERIES[row.name, ((row.label, label_value),) if row.label else ()]


def refinement(*, kept=(), dropped=0, labels=None, coarse=None, times_ms=NO_TIMES_MS):
    count = len(kept)
    report = RegionReport(
        classes=np.zeros(count, np.int32),
        boxes_xyxy_image=np.zeros((count, 4), np.int32),
        scores=np.zeros(count, np.float32),
        ious=np.zeros(count, np.float32),
        outcomes=np.where(np.array(kept, np.bool_), Outcome.REFINED, Outcome.LOW_IOU),
        masks=np.full(count, -1, np.int32),
        gains=np.zeros(count, np.float32),
    )
    coarse = np.zeros((2, 5), np.int32) if coarse is None else coarse
    return Refinement(labels, None, coarse, report, dropped, np.array(times_ms, np.float32))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_keeps_prometheus_s_rules(row):
    assert re.fullmatch(r"sam_refine_[a-z_]+", row.name)
    assert row.name.endswith("_total") == (row.kind is Kind.COUNTER)
    assert bool(row.buckets) == (row.kind is Kind.HISTOGRAM)
    assert list(row.buckets) == sorted(set(row.buckets))
    assert bool(row.label) == (row.label_values != ("",))
    assert len(set(row.label_values)) == len(row.label_values)


def test_page_has_every_row_and_no_other():
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in PAGE.partition("## What was healed")[0].splitlines()
        if line.startswith("| `sam_refine_")
    ]
    found = {
        name.strip("`"): (kind, *re.findall(r"`(\w+)`", label)) for name, kind, label, _ in table
    }
    assert len(found) == len(table)
    assert found == {
        row.name: (row.kind.name.lower(), *filter(None, (row.label, *row.label_values)))
        for row in ROWS
    }


def test_page_names_no_metric_that_is_none():
    suffixes = ("", "_bucket", "_sum", "_count")
    known = {row.name + suffix for row in ROWS for suffix in suffixes}
    known |= {sample.name for family in Status().registry.collect() for sample in family.samples}
    known |= {f"{family.name}_total" for family in Status().registry.collect()}
    assert set(re.findall(r"\bsam_refine_\w+", PAGE)) <= known


def test_every_series_is_there_from_the_start_with_nothing_reported():
    RefineMetrics()
    expected = {
        (row.name, ((row.label, value),) if row.label else ())
        for row in ROWS
        for value in row.label_values
    }
    assert set(SERIES) == expected
    assert not any(SERIES.values())


NONSENSE = [-1, -1e-9, math.nan, math.inf, -math.inf, "three", None, [1.0], 10**400, np.nan]


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: f"{value!r:.12}")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_value_that_is_no_measure_is_logged_and_dropped(row, value):
    Metric(row).record(value, row.label_values[0])
    assert values(row, row.label_values[0]) == []
    (text,) = LOG
    assert text.startswith(f"metric {row.name}: a value must be finite and >= 0, got ")
    assert len(text) < 250


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_label_that_is_unknown_is_logged_and_dropped(row):
    Metric(row).record(1, "elsewhere")
    assert set(SERIES) == {
        (row.name, ((row.label, value),) if row.label else ()) for value in row.label_values
    }
    assert not any(SERIES.values())
    assert "must be known, got 'elsewhere'; dropped" in LOG[0]


def test_failure_of_the_server_s_metrics_is_logged_and_goes_no_further(monkeypatch):
    metric = Metric(EMBEDDINGS)

    def fails(self, value):
        raise TritonModelException("the server is ending")

    monkeypatch.setattr("support.fake_stub.Metric.set", fails)
    metric.record(3)
    (text,) = LOG
    assert text == f"metric {EMBEDDINGS.name}: the server is ending; dropped"


def test_server_without_histograms_has_the_other_metrics(monkeypatch):
    monkeypatch.delattr(MetricFamily, "HISTOGRAM")
    metrics = RefineMetrics()
    metrics.refined(refinement(kept=[True], labels=np.zeros((2, 5), np.int32), times_ms=[1] * 7))
    assert values(REGIONS, "kept") == [1]
    assert {name for name, _ in SERIES}.isdisjoint({STAGE_SECONDS.name, CHANGED_RATIO.name})
    assert sum("has no metrics of its kind" in text for text in LOG) == 2


def test_refinement_is_counted():
    coarse = np.zeros((2, 5), np.int32)
    labels = coarse.copy()
    labels[0, :3] = 1
    RefineMetrics().refined(
        refinement(
            kept=[True, False, True],
            dropped=4,
            labels=labels,
            coarse=coarse,
            times_ms=(10, 20, 0, 30, 2500, 0, 40),
        )
    )
    assert [values(REGIONS, each) for each in REGIONS.label_values] == [[2], [1], [4]]
    assert values(CHANGED_RATIO) == [0.3]
    observed = {stage: values(STAGE_SECONDS, stage) for stage in STAGES}
    for skipped in (STAGES[2], STAGES[5]):
        assert observed.pop(skipped) == []
    np.testing.assert_allclose(list(observed.values()), [[0.01], [0.02], [0.03], [2.5], [0.04]])


def test_refinement_without_labels_says_nothing_of_changed_pixels():
    RefineMetrics().refined(refinement(kept=[True]))
    assert values(CHANGED_RATIO) == []
    assert values(REGIONS, "failed") == []


@pytest.mark.parametrize("reason", FailureReason)
def test_failure_counts_under_its_reason(reason):
    RefineMetrics().failed(reason)
    assert [each for each in FAILURES.label_values if values(FAILURES, each)] == [reason.value]
    assert values(FAILURES, reason.value) == [1]


def test_cache_is_counted():
    metrics = RefineMetrics()
    for hit in (True, False, True):
        metrics.looked_up(hit=hit)
    metrics.stored(7)
    metrics.stored(0)
    assert (values(LOOKUPS, "hit"), values(LOOKUPS, "miss")) == ([1, 1], [1])
    assert values(EMBEDDINGS) == [7, 0]
