"""A server for one benchmark, and the memory of its processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

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
