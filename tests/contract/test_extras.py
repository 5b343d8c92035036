"""Extras that go together: what a Triton stub runs in keeps numpy 1, whatever else is installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEVELOPMENT = {"all", "bench", "test"}


def requirements(extra: str) -> set[str]:
    """Of an extra and those that it names."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        if requirement.startswith("sam-refine["):
            names = requirement.removeprefix("sam-refine[").rstrip("]").split(",")
            found = found.union(*map(requirements, names))
        else:
            found.add(requirement)
    return found


@pytest.mark.parametrize(
    "extra", ["backend", "local", "serve", "gpu", "tune", "all", "bench", "test"]
)
def test_extra_that_runs_the_backend_wants_numpy_1(extra):
    assert "numpy>=1.24,<2" in requirements(extra)


def test_all_has_every_extra_that_one_machine_needs():
    named = set(EXTRAS["all"][0].removeprefix("sam-refine[").rstrip("]").split(","))
    implied = {"backend", "local", "supervisor"}  # of serve and tune
    apart = {"gpu", "bulk-ray"}  # for machines that have one; for clusters
    assert named | implied == set(EXTRAS) - DEVELOPMENT - apart


def test_gpu_brings_no_second_onnxruntime():
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements("gpu")}
    assert "onnxruntime-gpu" in names
    assert "onnxruntime" not in names


@pytest.mark.slow
def test_gpu_and_command_line_can_be_installed_together(tmp_path):
    found = resolved("gpu,cli", tmp_path)
    assert {"onnxruntime-gpu", "nvidia-ml-py", "nvidia-pytriton", "typer"} <= set(found)
    assert any(name.startswith("nvidia-cudnn-") for name in found)
    assert "onnxruntime" not in found
    assert found["numpy"].startswith("1.")


@pytest.mark.slow
def test_page_and_server_in_one_environment_keep_numpy_1(tmp_path):
    """The page alone would bring numpy 2."""
    found = resolved("serve,ui,cli", tmp_path)
    assert found["numpy"].startswith("1.")
    assert {"gradio", "nvidia-pytriton", "typer"} <= set(found)


def resolved(extras: str, tmp_path: Path) -> dict[str, str]:
    """Versions by package, as pip would install them."""
    report = tmp_path / "report.json"
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    options = ["--only-binary=:all:", "--report", str(report), "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, *options, f"{ROOT}[{extras}]"], check=True, cwd=tmp_path)
    return {
        package["metadata"]["name"]: package["metadata"]["version"]
        for package in json.loads(report.read_text())["install"]
    }
