"""What the tests share: one export of MobileSAM, one server on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")

ROOT = Path(__file__).parents[1]
Infer = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def repository() -> Path:
    """A model repository of MobileSAM with its real weights; made once per checkout."""
    from sam_refine_export import export_repository, is_current

    path = ROOT / "build" / "test_model_repository"
    if not is_current(path):
        export_repository(path)
    return path


@pytest.fixture(scope="session")
def networks(repository: Path) -> Any:
    """The exported networks in process."""
    from sam_refine_client.transport.local_networks import CPU, Networks

    return Networks(repository, [CPU])


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real tritonserver on the exported repository: `ServerOptions` with its ports."""
    from sam_refine_deploy import Server, ServerOptions
    from support.servers import server_ports

    log_file = tmp_path_factory.mktemp("server") / "triton.log"
    options = ServerOptions(repository, log_file=log_file, **server_ports())
    with Server(options):
        yield options


@pytest.fixture(scope="session")
def grpc_client(server: Any) -> Iterator[Any]:
    """NVIDIA's own client: the tests of the server do not lean on ours."""
    import tritonclient.grpc

    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


@pytest.fixture(scope="session")
def infer(grpc_client: Any) -> Infer:
    """infer(inputs, outputs, parameters={}, model="sam_refine") -> outputs by name."""
    from support.calls import calls_of

    return calls_of(grpc_client)
