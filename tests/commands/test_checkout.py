"""`make` in a checkout whose path is nothing that anybody would choose."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
NOT_COPIED = (".git", ".venv*", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A copy of this one, with an environment that runs the copy and has been exported for."""
    place = tmp_path / "My Projects" / "jürgen's $(touch ran) `touch ran`"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*NOT_COPIED))
    shutil.copytree(repository, place / "build" / "model_repository")
    environment = place / ".venv"
    venv.create(environment, symlinks=True)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    installed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "installed.pth").write_text("\n".join(installed), encoding="utf-8")
    python = str(environment / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install"]
    programs = ["--force-reinstall", f"pytest=={version('pytest')}", "-e", ".[all]"]
    subprocess.run([*pip, "--quiet", "--no-deps", *programs], cwd=place, check=True)
    for extra in ("all", "test"):
        (environment / f".installed-{extra}").touch()
    return place


def make(checkout: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_demo_and_make_test_work_at_any_path(checkout):
    printed = make(checkout, "demo")
    rows = dict(line.rsplit(maxsplit=1) for line in printed.splitlines() if "  " in line)
    assert int(rows["regions"]) == int(rows["kept"]) + int(rows["left alone"])
    for name in ("labels.png", "palette.png", "regions.json", "result.npz", "before_after.png"):
        assert (checkout / "build" / "demo" / name).stat().st_size > 100
        assert f"build/demo/{name}" in printed
    one = "tests/unit/sam_refine/algorithm/test_merge.py -k draws"
    assert " passed" in make(checkout, "--assume-old=lint", "test", f"ARGS={one}")
    assert not list(checkout.parents[1].rglob("ran"))
