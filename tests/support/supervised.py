"""A server that is kept up in a process of its own, as `sam-refine serve` is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_refine_deploy.launcher.stubs import Stub, stubs_of
from support.servers import free_ports, server_ports

SERVE = """
import json, sys
from pathlib import Path
from sam_refine_deploy import ServerOptions, SupervisorOptions, serve
repository, ports, health_port, options, supervisor = map(json.loads, sys.argv[1:])
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

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the supervisor."""
        return get(f"http://127.0.0.1:{self.health_port}{path}")

    def is_ready(self) -> bool:
        return self.ask("/ready")[0] == 200

    def reasons(self) -> list[str]:
        found: list[str] = json.loads(self.ask("/ready")[1])["reasons"]
        return found

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
    environment: dict[str, str] | None = None,
    options: dict[str, Any] | None = None,
    **supervisor: Any,
) -> Iterator[Supervised]:
    """Start it, wait until it is ready, and see to it that it is gone at the end of the block."""
    ports, (health_port,) = server_ports(), free_ports(1)
    options = {"log_file": str(log.with_suffix(".triton")), **(options or {})}
    values = (str(repository), ports, health_port, options, supervisor)
    arguments = [json.dumps(value) for value in values]
    with log.open("w") as lines:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *arguments],
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
        process.wait()
        process.stdout.close()
