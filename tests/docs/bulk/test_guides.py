"""docs/bulk.md and docs/scale.md: what they list is what there is, and their examples run."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sam_refine_bulk.metrics import MetricsFile, Progress
from sam_refine_bulk.results import Reason
from sam_refine_cli.app import make_app
from support.bulk.data_sets import FakeClient, data_set, results
from support.chart.schemas import faults
from support.command_line import command_of, run

DOCS = Path(__file__).parents[3] / "docs"
BULK = (DOCS / "bulk.md").read_text(encoding="utf-8")
SCALE = (DOCS / "scale.md").read_text(encoding="utf-8")


def test_metrics_are_those_of_the_table(tmp_path):
    path = tmp_path / "bulk.prom"
    MetricsFile(path, {"rank": "0"}).write(Progress(1), now=True)
    written = {family.name for family in text_string_to_metric_families(path.read_text())}
    assert written == set(re.findall(r"`(sam_refine_bulk_\w+)`", BULK))


def test_reasons_are_those_of_the_tables():
    (row,) = re.findall(r"by `reason`: (.*) \|", BULK)
    assert re.findall(r"`(\w+)`", row) == [reason.value for reason in Reason]


def test_example_in_python_refines_a_data_set(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", BULK, re.DOTALL)
    data_set(tmp_path / "data", 2, 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sam_refine_client.RefineClient", lambda url: FakeClient())
    exec(code, {})
    assert results(tmp_path / "refined") == Counter(["0000", "0001", "0002"])


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_job_is_one_of_kubernetes_and_calls_bulk(version):
    (text,) = re.findall(r"```yaml\n(.*?)```", SCALE, re.DOTALL)
    job: Any = yaml.safe_load(text)
    assert faults(job, version) == []
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, *words = container["command"]
    assert program == "sam-refine"
    known = {flag for option in command_of(typer.main.get_command(make_app()), words).params
             for flag in option.opts}  # fmt: skip
    assert {word for word in words if word.startswith("--")} <= known
    assert words[words.index("--world-size") + 1] == str(job["spec"]["completions"])


def test_plan_of_the_guide_runs():
    (line,) = re.findall(r"^sam-refine (plan .*)$", SCALE, re.MULTILINE)
    done = run(*line.split())
    assert done.returncode == 0
    assert "machines" in done.stdout
