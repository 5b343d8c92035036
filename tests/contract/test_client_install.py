"""The extra `client` in an environment of its own: what it brings, imports and can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from support.cases import DEMO_DATA

pytestmark = pytest.mark.xdist_group("export")  # all share `installed`

ROOT = Path(__file__).parents[2]
NEVER = {
    "cc3d",
    "gradio",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "psutil",
    "pycocotools",
    "pytriton",
    "rich",
    "scipy",
    "shapely",
    "torch",
    "typer",
}
"""What belongs to other extras, or to nothing that waits for a server's answer."""

IMPORTED = """
import json, sys
import sam_refine_client
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

REFINE = """
import sys
import numpy as np
from sam_refine_client import AsyncRefineClient, RefineClient, RefineOptions
import asyncio

url, data = sys.argv[1:]
arguments = {
    "image": f"{data}/photo.jpg",
    "logits": np.load(f"{data}/coarse_scores.npy"),
    "options": RefineOptions(min_region_area=225),
}
with RefineClient(url) as client:
    result = client.refine(**arguments)
    print(result.labels.shape, any(region.kept for region in result.regions))

async def refine():
    async with AsyncRefineClient(url) as client:
        return await client.refine(**arguments)

print(bool((asyncio.run(refine()).labels == result.labels).all()))
"""


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def uv(directory, command, *arguments):
    """uv's pip, for the environment in a folder: seconds where pip takes half a minute."""
    pip = [sys.executable, "-m", "uv", "pip", command, "--python", directory / "venv"]
    return run(*pip, *arguments, cwd=directory)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A folder whose `venv` has `sam-refine[client]`."""
    directory = tmp_path_factory.mktemp("client")
    venv.create(directory / "venv")
    uv(directory, "install", "--quiet", f"{ROOT}[client]")
    return directory


@pytest.fixture
def installed(environment):
    """installed(*arguments) runs the Python of that environment."""
    python = environment / "venv" / "bin" / "python"
    return lambda *arguments: run(python, *arguments, cwd=environment)


def test_client_extra_brings_none_of_the_others(environment):
    packages = json.loads(uv(environment, "list", "--format", "json"))
    names = {package["name"].lower() for package in packages}
    assert {"sam-refine", "numpy", "pillow", "tritonclient"} <= names
    assert not names & (NEVER | {"connected-components-3d", "nvidia-pytriton"})
    uv(environment, "check")


def test_client_import_there_loads_none_of_the_others(installed):
    modules = set(json.loads(installed("-c", IMPORTED)))
    assert {"sam_refine_client", "tritonclient"} <= modules
    assert not modules & (NEVER | {"sam_refine_export", "sam_refine_deploy", "sam_refine_cli"})


def test_client_import_loads_none_of_the_others_where_they_are_installed():
    """An import that is tried, and whose failure is survived, costs seconds where it succeeds."""
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, check=True)
    assert not set(json.loads(done.stdout)) & NEVER


@pytest.mark.triton
def test_client_installed_there_refines(installed, server):
    printed = installed("-c", REFINE, f"127.0.0.1:{server.grpc_port}", DEMO_DATA)
    assert printed == "(400, 600) True\nTrue\n"
