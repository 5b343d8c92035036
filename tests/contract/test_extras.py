"""Extras that go together: what a Triton stub runs in keeps numpy 1, whatever else is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement

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


# --- Combinations that the guides and the image install ---

NAMED = re.compile(r"(?:\.|sam-refine|\.whl\)\"?)\[([a-z]+(?:[,-][a-z]+)*)\]")
HERE = "test"
"""The extra that the environment of the tests was installed with."""
ON_A_GPU = "gpu,cli"


def combinations() -> list[str]:
    guides = [ROOT / "README.md", ROOT / "deploy/Dockerfile", *(ROOT / "docs").rglob("*.md")]
    names = {name for guide in guides for name in NAMED.findall(guide.read_text(encoding="utf-8"))}
    return sorted(name for name in names if set(name.split(",")) <= set(EXTRAS))


def of_combination(names: str) -> set[str]:
    return set[str]().union(*map(requirements, names.split(",")))


def test_guides_name_combinations():
    named = combinations()
    assert {ON_A_GPU, "serve,ui,cli", "tune,cli", "client"} <= set(named)
    assert any("supervisor" in name for name in named), "the image's"


@pytest.mark.parametrize("names", combinations())
def test_combination_is_part_of_one_that_resolves(names):
    """What is part of it resolves as well: the tests' own environment, or that for a GPU."""
    whole = ON_A_GPU if "gpu" in names else HERE
    assert of_combination(names) <= of_combination(whole)


def test_environment_of_the_tests_has_what_its_extra_wants():
    for requirement in map(Requirement, of_combination(HERE)):
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)
    assert version("numpy").startswith("1.")


@pytest.mark.slow
def test_gpu_and_command_line_can_be_installed_together(tmp_path):
    found = resolved(ON_A_GPU, tmp_path)
    assert {"onnxruntime-gpu", "nvidia-ml-py", "nvidia-pytriton", "typer"} <= set(found)
    assert any(name.startswith("nvidia-cudnn-") for name in found)
    assert "onnxruntime" not in found
    assert found["numpy"].startswith("1.")


def resolved(extras: str, tmp_path: Path) -> dict[str, str]:
    """Versions by package, as they would be installed."""
    pins = tmp_path / "requirements.txt"
    names = [word for extra in extras.split(",") for word in ("--extra", extra)]
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header"]
    options = ["--only-binary", ":all:", "-c", str(ROOT / "constraints.txt"), "-o", str(pins)]
    subprocess.run([*uv, *options, *names, ROOT / "pyproject.toml"], check=True, cwd=tmp_path)
    return dict(line.split("==") for line in pins.read_text().splitlines())
