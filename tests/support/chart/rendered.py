"""deploy/chart as helm renders it."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from support.chart.tools import helm

CHART = Path(__file__).parents[3] / "deploy" / "chart"
RELEASE, NAMESPACE = "sam-refine", "maps"
Resource = dict[str, Any]


class RefusedError(Exception):
    """What helm says against values."""


def render(
    values: dict[str, Any] | None = None,
    *,
    major: int = 4,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> dict[tuple[str, str], Resource]:
    """The resources by kind and name, without the release's name. Raises `RefusedError`."""
    return _render(json.dumps(values or {}), major, release, namespace)


@cache
def _render(
    values: str, major: int, release: str, namespace: str
) -> dict[tuple[str, str], Resource]:
    command = [str(helm(major)), "template", release, str(CHART), "--namespace", namespace]
    done = subprocess.run(
        [*command, "--values", "-"], input=values, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    found = [each for each in yaml.load_all(done.stdout, _LOADER) if each]
    named = {(each["kind"], each["metadata"]["name"].removeprefix(release)): each for each in found}
    assert len(named) == len(found)
    return named


def notes(values: dict[str, Any] | None = None) -> str:
    """What helm says after an installation."""
    command = [str(helm(4)), "install", RELEASE, str(CHART), "--namespace", NAMESPACE]
    done = subprocess.run(
        [*command, "--dry-run=client", "--values", "-"],
        input=json.dumps(values or {}), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.partition("\nNOTES:\n")[2]


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
