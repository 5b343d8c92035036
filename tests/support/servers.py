"""Where a test's servers listen, calls by NVIDIA's own client, and a server that is kept up."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc

from sam_refine.contract import MODELS, SAM_MASK_JUDGE
from sam_refine_deploy.launcher.stubs import Stub, stubs_of

SPECS = {
    model.name: {spec.name: spec for spec in model.inputs} for model in (*MODELS, SAM_MASK_JUDGE)
}


_ports = itertools.cycle(range(20_000, 32_000))
for _ in range(os.getpid() * 97 % 12_000):  # test runs beside each other begin apart
    next(_ports)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, none of them given out before.

    A server opens its ports seconds later. They lie below those that Linux gives to connections and
    to whoever asks for port 0, so that nobody comes between.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_ports)
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            found.append(port)
    return found


def server_ports() -> dict[str, int]:
    """Three free ports as keyword arguments of `ServerOptions`."""
    return dict(zip(("grpc_port", "http_port", "metrics_port"), free_ports(3), strict=True))


def calls_of(client: tritonclient.grpc.InferenceServerClient) -> Any:
    """infer(inputs, outputs, parameters={}, model="sam_refine") -> outputs by name."""

    def infer(inputs, outputs, parameters=None, model="sam_refine", **arguments):
        tensors = []
        for name, array in inputs.items():
            tensor = tritonclient.grpc.InferInput(
                name, list(array.shape), SPECS[model][name].datatype
            )
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
            tensors.append(tensor)
        response = client.infer(
            model,
            tensors,
            outputs=[tritonclient.grpc.InferRequestedOutput(name) for name in outputs],
            parameters=parameters,
            **arguments,
        )
        return {name: response.as_numpy(name) for name in outputs}

    return infer


Sent = list[tuple[str, str, list[int], bytes]]
"""Name, datatype, shape and bytes of each input."""


def form(http_port: int, model: str, sent: Sent, *outputs: str) -> urllib.request.Request:
    """Inputs in binary over HTTP, said to be a form, as curl does; all outputs, or the named."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape,
         "parameters": {"binary_data_size": len(data)}}
        for name, datatype, shape, data in sent
    ]  # fmt: skip
    header = {"inputs": inputs, "outputs": [{"name": name} for name in outputs]}
    text = json.dumps(header).encode()
    return urllib.request.Request(
        f"http://127.0.0.1:{http_port}/v2/models/{model}/infer",
        text + b"".join(data for *_, data in sent),
        {
            "Inference-Header-Content-Length": str(len(text)),
            "Content-Type": "application/x-www-form-urlencoded",
        },
    )


# --- A server in a process of its own, as `sam-refine serve` is ---

SERVE = """
import importlib, json, sys
from pathlib import Path
from sam_refine_deploy import ServerOptions, SupervisorOptions, serve
repository, ports, health_port, options, constants, supervisor = map(json.loads, sys.argv[1:])
for name, value in constants.items():
    module, _, constant = name.rpartition(".")
    setattr(importlib.import_module(module), constant, value)
options["log_file"] = Path(options["log_file"])
options = ServerOptions(Path(repository), **ports, **options)
supervisor = SupervisorOptions(health_port, **supervisor)
def ready(server):
    print(server.process_id, server.run_directory, flush=True)
sys.exit(serve(options, ready, supervisor))
"""


@dataclass
class Supervised:
    """The process that keeps a server up, ready for the first time."""

    process: subprocess.Popen[str]
    ports: dict[str, int]
    health_port: int
    first_server: int
    """The process of its first tritonserver."""
    run_directory: Path
    log: Path

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.ports['grpc_port']}"

    @property
    def server(self) -> int:
        """The process of tritonserver now; 0 between two."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for child in children.split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "tritonserver":
                return int(child)
        return 0

    def stubs(self, model: str = "") -> list[Stub]:
        return [stub for stub in stubs_of(self.server) if stub.model.startswith(model)]

    def end(self) -> int:
        """Tell it to end, and wait for its exit code."""
        self.process.terminate()
        return self.process.wait()

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the supervisor."""
        return get(f"http://127.0.0.1:{self.health_port}{path}")

    def is_ready(self) -> bool:
        return self.ask("/ready")[0] == 200

    def reasons(self) -> list[str]:
        found: list[str] = json.loads(self.ask("/ready")[1])["reasons"]
        return found

    def has_ended_itself(self, process_id: int) -> bool:
        """Whether a stub says so: it stood still too long, as on a machine that is very busy."""
        return f"process {process_id} ends itself" in self.triton_log()

    def triton_log(self) -> str:
        """What tritonserver and its stubs have said."""
        return self.log.with_suffix(".triton").read_text(encoding="utf-8", errors="replace")

    def metric(self, series: str) -> float:
        """A value of the supervisor's metrics; 0 where there is none yet."""
        for line in self.ask("/metrics")[1].splitlines():
            if line.startswith(f"{series} "):
                return float(line.rpartition(" ")[2])
        return 0.0


def get(url: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until(condition: Any) -> None:
    """Come back when it holds, however long that takes: the test's time limit ends it."""
    while not condition():
        time.sleep(0.05)


@contextmanager
def supervised(
    repository: Path,
    log: Path,
    *,
    python: str = sys.executable,
    environment: dict[str, str] | None = None,
    options: dict[str, Any] | None = None,
    constants: dict[str, Any] | None = None,
    **supervisor: Any,
) -> Iterator[Supervised]:
    """Start it, wait until it is ready, and tell it to end at the end of the block.

    Triton takes seconds to end: the next test begins meanwhile, and `all_ended` waits. `constants`
    of modules, by their full names, are others there: times that nobody waits for.
    """
    ports, (health_port,) = server_ports(), free_ports(1)
    options = {"log_file": str(log.with_suffix(".triton")), **(options or {})}
    values = (str(repository), ports, health_port, options, constants or {}, supervisor)
    arguments = [json.dumps(value) for value in values]
    with log.open("w") as lines:
        process = subprocess.Popen(
            [python, "-c", SERVE, *arguments],
            stdout=subprocess.PIPE,
            stderr=lines,
            text=True,
            env=environment,
        )
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split(maxsplit=1)
        assert len(words) == 2, log.read_text()
        run_directory = Path(words[1].strip())
        yield Supervised(process, ports, health_port, int(words[0]), run_directory, log)
    finally:
        process.terminate()
        process.stdout.close()
        _ending.append(process)


_ending: list[subprocess.Popen[str]] = []


def all_ended() -> None:
    """Wait for the servers that were told to end."""
    while _ending:
        _ending.pop().wait()
