"""What the chart's pods run, run on this machine: command, probes, end; the models' way from S3."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc

from sam_refine_deploy.launcher.repository import check_repository
from support.chart.rendered import render
from support.servers import free_ports, get, wait_until
from support.tiny_models import STAND_IN, make_repository

DRAIN_S = 2
PORTS = {"grpc": 8001, "http": 8000, "metrics": 8002, "health": 8003}


def pod_of(values):
    return render(values)["Deployment", ""]["spec"]["template"]["spec"]


@pytest.mark.triton
def test_server_answers_its_probes_and_ends_within_its_grace_period(tiny_repository, tmp_path):
    """On free ports of 127.0.0.1, and from a repository of tiny models."""
    pod = pod_of({"gpu": {"count": 0}, "server": {"drainDelaySeconds": DRAIN_S}})
    (container,) = pod["containers"]
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    others = {
        "--model-repository=/models": f"--model-repository={tiny_repository}",
        "--host=0.0.0.0": "--host=127.0.0.1",
        **{f"--{name}-port={port}": f"--{name}-port={ports[name]}" for name, port in PORTS.items()},
    }
    assert set(others) <= set(container["args"])
    program, *words = container["command"]
    arguments = [others.get(word, word) for word in container["args"]]
    log = tmp_path / "pod.log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("w") as lines:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / program), *words, *arguments],
            stdout=lines, stderr=lines, env=environment,
        )  # fmt: skip

    def probe(name: str) -> int:
        asked = container[f"{name}Probe"]["httpGet"]
        try:
            return get(f"http://127.0.0.1:{ports[asked['port']]}{asked['path']}")[0]
        except OSError:
            return 0

    try:
        wait_until(lambda: process.poll() is not None or probe("startup") == 200)
        assert process.poll() is None, log.read_text()
        assert (probe("readiness"), probe("liveness")) == (200, 200)
        assert "Started GRPCInferenceService" in log.read_text()  # `kubectl logs` has it
        for port in container["ports"]:
            assert port["containerPort"] in PORTS.values()
        for name in ("metrics", "health"):
            assert get(f"http://127.0.0.1:{ports[name]}/metrics")[0] == 200
        process.terminate()
        wait_until(lambda: probe("readiness") == 503)
        assert probe("liveness") == 200
        tensor = grpc.InferInput("x", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 2), np.float32))
        with grpc.InferenceServerClient(f"127.0.0.1:{ports['grpc']}") as client:
            client.infer(STAND_IN, [tensor])  # it still serves
        assert process.wait(pod["terminationGracePeriodSeconds"]) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=["w", "w:gz"])
def tar(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    repository = make_repository(folder / "models")
    path = folder / "packed.tar"
    with tarfile.open(path, request.param) as archive:
        for model in repository.iterdir():
            archive.add(model, model.name)
    return path


@pytest.mark.parametrize("is_right", [True, False])
def test_models_are_unpacked_where_their_checksum_is_right(is_right, tar, tmp_path):
    digest = hashlib.sha256(tar.read_bytes()).hexdigest() if is_right else "0" * 64
    s3 = {"uri": "s3://models/sam.tar", "sha256": digest}
    download, unpack = pod_of({"modelRepository": {"source": "s3", "s3": s3}})["initContainers"]
    environment = {each["name"]: each["value"] for each in unpack["env"]}
    assert download["args"][-2:] == [s3["uri"], environment["TAR"]]
    (tmp_path / "download").mkdir()
    models = tmp_path / "models"
    models.mkdir()
    (models / "left").write_text("by a try that was interrupted")
    brought = tmp_path / "download/repository.tar"
    brought.write_bytes(tar.read_bytes())
    environment |= {"TAR": str(brought), "MODELS": str(models), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*unpack["command"], *unpack["args"]], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if is_right:
        assert done.returncode == 0, done.stderr
        check_repository(models)
        assert not (models / "left").exists()
        assert not brought.exists()
    else:
        assert done.returncode != 0
        assert re.search("checksum did NOT match", done.stderr)
        assert [path.name for path in models.iterdir()] == ["left"]
