"""Folders that a reader can take in at a glance, and what pyproject.toml says of itself."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[2]
TOP_FOLDERS = ("benchmarks", "bulk", "cli", "client", "deploy", "docs", "export",
               "model_repository", "python_backend", "quality", "tests", "ui")  # fmt: skip
MOST_MODULES = 12


def modules_by_folder() -> dict[Path, list[str]]:
    """The modules of each folder with Python, `__init__.py` aside."""
    modules: dict[Path, list[str]] = {}
    for top in TOP_FOLDERS:
        for path in (ROOT / top).rglob("*.py"):
            if path.name != "__init__.py":
                modules.setdefault(path.parent.relative_to(ROOT), []).append(path.name)
    return modules


def test_folders_have_a_dozen_modules_at_most():
    modules = modules_by_folder()
    assert Path("python_backend/sam_refine/algorithm") in modules
    assert Path("tests/contract") in modules
    crowded = {str(folder): len(names) for folder, names in modules.items()
               if len(names) > MOST_MODULES}  # fmt: skip
    assert crowded == {}


def test_every_folder_with_python_is_looked_at():
    found = {path.name for path in ROOT.iterdir() if path.is_dir()
             and not path.name.startswith(".") and any(path.rglob("*.py"))}  # fmt: skip
    assert found - {"build", "dist"} == set(TOP_FOLDERS)


@pytest.mark.parametrize("folder", ["support", "unit", "contract", "server", "commands"])
def test_test_folders_are_no_packages_but_support(folder):
    """pytest imports tests by their path, so that equal names in two folders do not collide."""
    inits = {path.parent.name for path in (ROOT / "tests" / folder).rglob("__init__.py")}
    assert inits == ({"support"} if folder == "support" else set())


def test_tests_of_a_file_have_one_worker(request):
    """pytest-xdist reads it from the name; or else each worker would export and start Triton."""
    assert request.node.get_closest_marker("xdist_group") is not None
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@tests/contract/test_structure.py")


def test_classifiers_are_the_pythons_that_may_install_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    first, end = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    named = re.findall(r"Python :: 3\.(\d+)", "\n".join(project["classifiers"]))
    assert [int(minor) for minor in named] == list(range(int(first), int(end)))
