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
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from sam_refine.contract import ArrayLibrary, Limits
from support.servers import free_ports, server_ports, supervised
from support.tiny_models import make_repository

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")


def words_of(instruction: str) -> list[str]:
    """A line of the Dockerfile that is a list of words."""
    (text,) = re.findall(rf"^{instruction} (.+)$", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(text)
    return words


@pytest.mark.triton
def test_image_s_command_serves(tmp_path):
    """On this machine's address instead of all, and on free ports."""
    ports = [*server_ports().values(), *free_ports(1)]
    names = ("grpc", "http", "metrics", "health")
    words = [*words_of("ENTRYPOINT"), *words_of("CMD")]
    words[words.index("/models")] = str(make_repository(tmp_path / "models"))
    words[words.index("0.0.0.0")] = "127.0.0.1"
    for name, port in zip(names, ports, strict=True):
        words += [f"--{name}-port", str(port)]
    (variables,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    program = str(Path(sys.executable).parent / words[0])
    command = [program, *words[1:], "--drain-delay-s", "0", "--"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen(
        [*command, "--log-verbose=0"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stdout.readline() == (
        f"ready: gRPC 127.0.0.1:{ports[0]}, HTTP 127.0.0.1:{ports[1]}, "
        f"metrics http://127.0.0.1:{ports[2]}/metrics, health http://127.0.0.1:{ports[3]}/ready\n"
    )
    (triton,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    arguments = Path(f"/proc/{triton}/cmdline").read_text().split("\0")
    given = Path(f"/proc/{triton}/environ").read_text().split("\0")
    server.terminate()
    assert server.wait() == 0
    assert set(shlex.split(variables)) <= set(given)
    assert {"--rate-limit=execution_count", "--exit-timeout-secs=30", "--log-verbose=0"} <= set(
        arguments
    )


def test_page_explains_the_image_s_settings():
    (variables,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    options = re.findall(r"--\S+ \d+", " ".join(words_of("CMD")))
    assert options
    for setting in (*options, *variables.split()):
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
def test_probes_find_a_server_that_is_well(repository, tmp_path):
    pages = re.findall(r"^\| `(/\w+)` \|", PAGE, re.MULTILINE)
    assert pages == ["/ready", "/live", "/metrics"]
    with supervised(repository, tmp_path / "serve.log") as service:
        for page in pages:
            assert service.ask(page)[0] == 200
        with urllib.request.urlopen(
            f"http://127.0.0.1:{service.ports['metrics_port']}/metrics", timeout=10
        ) as page:
            metrics = page.read().decode()
        metrics += service.ask("/metrics")[1]
    for name in re.findall(r"`((?:nv_|sam_refine_)\w+_(?:us|total|success|failure|ready))\b", PAGE):
        assert re.search(rf"^{name}[{{ ]", metrics, re.MULTILINE), name


def test_container_outlives_the_server_s_own_timeouts():
    options = words_of("CMD")
    drain_s, exit_s = (
        int(options[options.index(name) + 1]) for name in ("--drain-delay-s", "--exit-timeout-s")
    )
    (stop_timeout_s,) = re.findall(r"--stop-timeout (\d+) ", PAGE)
    assert int(stop_timeout_s) > drain_s + exit_s
