"""Servers that run tiny networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as grpc

from sam_refine_deploy import Server, ServerOptions
from support.servers import server_ports
from support.tiny_models import make_repository


@pytest.fixture
def tiny_repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "models")


@pytest.fixture
def ports() -> dict[str, int]:
    return server_ports()


@pytest.fixture(scope="module")
def tiny_server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """A server of `make_repository` with what the module's `add_models` puts beside it."""
    path = make_repository(tmp_path_factory.mktemp("deploy") / "models")
    request.module.add_models(path)
    with Server(ServerOptions(path, **server_ports())) as server:
        yield server


@pytest.fixture
def client(tiny_server: Server) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(tiny_server.grpc_address) as client:
        yield client
