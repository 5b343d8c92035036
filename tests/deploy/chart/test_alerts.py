"""deploy/chart/files/alerts.yaml: each alert fires when it should, and not when it should not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from support.chart.rendered import CHART
from support.chart.tools import prometheus

ROOT = Path(__file__).parents[3]
ALERTS = CHART / "files/alerts.yaml"
CASES = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text(encoding="utf-8"))
GROUPS = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
RULES = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    cases = {name: {case["fires"] for case in CASES[name]} for name in CASES}
    assert cases == {name: {True, False} for name in RULES}


def test_rules_are_well(tmp_path):
    checked = subprocess.run(
        [prometheus("promtool"), "check", "rules", ALERTS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in checked.stdout


def test_alerts_fire_when_they_should(tmp_path):
    tests = [
        {
            "name": f"{name} {'fires' if case['fires'] else 'does not fire'}: {case['when']}",
            "interval": "1m",
            "input_series": [
                {"series": series, "values": values} for series, values in case["series"].items()
            ],
            "alert_rule_test": [
                {"alertname": name, "eval_time": case["after"], "exp_alerts": expected(name, case)}
            ],
        }
        for name, cases in CASES.items()
        for case in cases
    ]
    document = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    tested = subprocess.run(
        [prometheus("promtool"), "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def expected(name: str, case) -> list[dict]:
    if not case["fires"]:
        return []
    annotations = {"summary": case["summary"], "runbook_url": f"docs/runbook.md#{name.lower()}"}
    labels = {**RULES[name]["labels"], **case.get("labels", {})}
    return [{"exp_labels": labels, "exp_annotations": annotations}]


@pytest.mark.parametrize("name", RULES)
def test_alert_has_a_severity_and_a_paragraph_in_the_runbook(name):
    rule = RULES[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    (paragraph,) = re.findall(
        rf"^### {name}\n\n(.+?)(?=\n\n#|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL
    )
    assert len(paragraph) > 100


def test_runbook_has_no_paragraph_of_an_alert_that_is_none():
    assert re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE) == list(RULES)
