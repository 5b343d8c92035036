"""docs/kubernetes.md and the chart's README name values that there are, and the chart's query."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from support.chart.rendered import CHART, render

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


def names(values, prefix=""):
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from names(value, f"{prefix}{name}.")


@pytest.mark.parametrize(
    "text", [PAGE, RUNBOOK, (CHART / "README.md").read_text(encoding="utf-8").partition("<!--")[0]]
)
def test_values_that_are_named_are_those_of_the_chart(text):
    known = set(names(VALUES))
    named = re.findall(r"--set ([\w.]+)=", text)
    groups = "|".join(name for name, value in VALUES.items() if isinstance(value, dict))
    named += re.findall(rf"`((?:{groups})\.\w+(?:\.\w+)*)\b", text)
    assert named
    assert set(named) <= known


def test_query_of_the_autoscaler_is_the_chart_s():
    values = {"autoscaling": {"mode": "keda", "prometheusUrl": "http://prometheus"}}
    (trigger,) = render(values)["ScaledObject", ""]["spec"]["triggers"]
    query = re.sub(r",namespace=[^}]+", "", trigger["metadata"]["query"])
    (shown,) = re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)
    assert " ".join(shown.split()) == query
    (adapter,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (rule,) = yaml.safe_load(adapter)["rules"]["external"]
    assert rule["metricsQuery"].replace(",<<.LabelMatchers>>", "") == query
    (metric,) = render({"autoscaling": {"mode": "hpa"}})["HorizontalPodAutoscaler", ""]["spec"][
        "metrics"
    ]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
