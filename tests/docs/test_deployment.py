"""docs/deployment.md and deploy/Dockerfile: what can be checked without Docker and a GPU."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from sam_refine.contract import ArrayLibrary, Limits
from sam_refine_deploy import Server, ServerOptions
from support.servers import server_ports
from support.tiny_models import make_repository

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")


def command() -> list[str]:
    (text,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(text)
    return words


@pytest.fixture(scope="module")
def manifest():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return yaml.safe_load(text)["spec"]


@pytest.mark.triton
def test_image_runs_the_server_as_serve_does(tmp_path):
    """The real server takes every flag of the image, and `serve` gives no other that matters."""
    program, models, *flags = command()
    assert (program, models) == ("tritonserver", "--model-repository=/models")
    options = ServerOptions(
        make_repository(tmp_path / "models"), extra_arguments=tuple(flags), **server_ports()
    )
    with Server(options) as server:
        arguments = Path(f"/proc/{server.process_id}/cmdline").read_text().split("\0")
        environment = Path(f"/proc/{server.process_id}/environ").read_text().split("\0")
    (variables,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    assert set(shlex.split(variables)) <= set(environment)
    own = r"--(model-repository|backend-(directory|config)|exit-timeout-secs|\w+-(address|port))="
    given = [each for each in arguments[1:] if each and not re.match(own, each)]
    assert set(given) == {flag for flag in flags if not re.match(own, flag)}


def test_page_explains_the_image_s_flags_and_variables():
    (variables,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    for setting in (*command()[2:], *variables.split()):
        assert f"`{setting}`" in PAGE, setting


def test_image_installs_extras_that_there_are():
    (extras,) = re.findall(r"\.whl\)\[([\w,]+)\]", DOCKERFILE)
    toml = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", toml, re.MULTILINE), extra


def test_limits_are_those_of_the_contract():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \|$", PAGE, re.MULTILINE))
    assert rows.pop("array_library") == ArrayLibrary.from_parameters({}).value
    assert rows == {limit.name: str(getattr(Limits(), limit.name)) for limit in fields(Limits)}


def test_instance_groups_can_be_read():
    blocks = re.findall(r"```pbtxt\n(.*?)```", PAGE, re.DOTALL)
    kinds = []
    for block in blocks:
        config = text_format.Parse(block, model_config_pb2.ModelConfig())
        kinds += [
            model_config_pb2.ModelInstanceGroup.Kind.Name(g.kind) for g in config.instance_group
        ]
    assert kinds == ["KIND_GPU", "KIND_CPU"]


@pytest.mark.triton
def test_probes_find_a_server_that_is_well(server, manifest):
    (container,) = manifest["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    ours = {8000: server.http_port, 8001: server.grpc_port, 8002: server.metrics_port}
    for probe in ("startupProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        url = f"http://127.0.0.1:{ours[ports[get['port']]]}{get['path']}"
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.status == 200
    liveness = container["livenessProbe"]
    words = liveness["exec"]["command"]
    assert float(words[words.index("--timeout-s") + 1]) < liveness["timeoutSeconds"]
    program = Path(sys.executable).parent / words[0]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    address = ["--url", f"127.0.0.1:{server.grpc_port}"]
    done = subprocess.run([program, *words[1:], *address], env=environment, timeout=60, check=False)
    assert done.returncode == 0
    with urllib.request.urlopen(
        f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10
    ) as page:
        metrics = page.read().decode()
    for name in re.findall(r"`((?:nv_|sam_refine_)\w+_(?:us|total|success|failure))\b", PAGE):
        assert f"\n{name}{{" in metrics, name


def test_container_outlives_the_server_s_own_exit_timeout(manifest):
    (exit_timeout_s,) = re.findall(r"--exit-timeout-secs=(\d+)", DOCKERFILE)
    (stop_timeout_s,) = re.findall(r"--stop-timeout (\d+) ", PAGE)
    assert int(stop_timeout_s) > int(exit_timeout_s)
    (container,) = manifest["containers"]
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert manifest["terminationGracePeriodSeconds"] > pause_s + int(exit_timeout_s)
