"""docs/bulk.md and docs/scale.md: what they list is what there is, and their examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
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

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
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


@pytest.mark.triton
def test_example_of_datatrove_refines_a_data_set(server, tmp_path):
    """In an environment of its own: it takes numpy 2, and a server's stubs do not."""
    (code,) = re.findall(r"```python\n(.*?)```", SCALE, re.DOTALL)
    recipe, python = tmp_path / "recipe.py", tmp_path / "venv/bin/python"
    recipe.write_text(code.replace("8001", str(server.grpc_port)), encoding="utf-8")
    data_set(tmp_path / "data", 2, 1, 1)
    venv.create(tmp_path / "venv")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in ([*install, f"{ROOT}[bulk]", "datatrove"], [python, recipe]):
        subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)
    assert results(tmp_path / "refined") == Counter(f"{number:04}" for number in range(4))
    ranks = {path.name for path in (tmp_path / "logs/completions").iterdir()}
    assert ranks == {"00000", "00001"}


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
