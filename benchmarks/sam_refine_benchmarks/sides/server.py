"""A server for one benchmark, and the memory of its processes."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from sam_refine_cli.commands.demo import free_ports
from sam_refine_deploy import Server, ServerOptions


@contextmanager
def running(model_repository: Path) -> Iterator[Server]:
    """A server on free ports of 127.0.0.1, ended with the block."""
    grpc_port, http_port, metrics_port = free_ports(3)
    options = ServerOptions(
        model_repository=model_repository,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
    )
    with Server(options) as server:
        yield server


def resident_bytes(server: Server) -> dict[str, int]:
    """Resident memory by process: `tritonserver`, and the stubs by model, instances added up.

    Pages that processes share count in each of them.
    """
    main = psutil.Process(server.process_id)
    resident = {"tritonserver": int(main.memory_info().rss)}
    for stub in main.children(recursive=True):
        name = stub_model(stub.cmdline())
        resident[name] = resident.get(name, 0) + int(stub.memory_info().rss)
    return resident


def stub_model(command: list[str]) -> str:
    """The model of a Python stub, whose command line begins `stub REPOSITORY/MODEL/1/FILE`."""
    return Path(command[1]).parts[-3]


@dataclass(frozen=True)
class Supervised:
    """`sam-refine serve` in a process of its own."""

    process: subprocess.Popen[str]
    ports: Mapping[str, int]
    """By option: --grpc-port and so on."""

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.ports['--grpc-port']}"

    def page(self, port: str, path: str) -> str:
        """What the port of an option answers by HTTP."""
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    def metrics(self, port: str) -> Iterator[Metric]:
        """Of Triton (--metrics-port) or of the supervisor (--health-port)."""
        return iter(text_string_to_metric_families(self.page(port, "/metrics")))


@contextmanager
def supervised(
    model_repository: Path, python: Path, stderr: IO[str] | None = None
) -> Iterator[Supervised]:
    """A server by the `sam-refine` of an environment's Python, until the end of the block.

    Raises `RuntimeError` where it does not start; why stands in `stderr`.
    """
    names = ("--grpc-port", "--http-port", "--metrics-port", "--health-port")
    ports = dict(zip(names, free_ports(4), strict=True))
    process = subprocess.Popen(
        [str(python), "-m", "sam_refine_cli", "serve", "--model-repository", str(model_repository)]
        + [word for name, port in ports.items() for word in (name, str(port))],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        if not process.stdout.readline().startswith("ready:"):
            raise RuntimeError("the server did not start")
        yield Supervised(process, ports)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
