"""What the tests share: the environment, one export of MobileSAM, one server on it."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if _worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # One core for each worker and all that it starts, before any library counts the cores: threads
    # of two processes that wait for each other on the same cores take many times as long.
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# What a terminal, or whoever has no colours in it, would change in what commands print.
for _name in ("COLUMNS", "LINES", "TERMINAL_WIDTH", "NO_COLOR", "FORCE_COLOR", "PY_COLORS",
              "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE",
              "GITHUB_ACTIONS"):  # fmt: skip
    os.environ.pop(_name, None)
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")

ROOT = Path(__file__).parents[1]
Infer = Callable[..., dict[str, Any]]
SLOW = {"mobile_sam_repository", "published", "mobile_sam", "small_checkpoint", "small_vit_b",
        "small_decoder", "installed"}  # fmt: skip
"""Fixtures that make a test slow: the export, weights, networks to export, an installation."""
EXPORT, CALLERS, UNDER_LOAD = "export", "export, callers", "export, under load"
"""The groups of what needs the export, each with a server of its own. Whatever kills servers under
load, or fills their queues, mostly waits."""
CALLERS_FOLDERS = ("tests/commands/", "tests/docs/", "tests/parity/")
FIRST = (EXPORT, "tests/deploy/test_supervisor.py", "tests/deploy/test_server.py", UNDER_LOAD,
         "tests/unit/sam_refine_export/test_pipeline.py", CALLERS)  # fmt: skip
"""The groups that take longest. What follows fills the gaps: no worker has one of them at the end,
alone. What needs the export comes when another worker has made it."""
SLOW_TIMEOUT_S = 1500
"""For a test that may be the one to wait for the export: three minutes on two quiet cores."""


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say of each test what it waits for, and which worker of `make test` has it.

    All that need the export go to three groups, each with a server; the others stay together by
    file, as the fixtures of a module do. A file in which both kinds share something costly names
    its group itself.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        needs_export = "mobile_sam_repository" in fixtures
        if fixtures & SLOW:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
        if not item.get_closest_marker("xdist_group"):
            group = item.nodeid.partition("::")[0]
            if needs_export:
                group = CALLERS if group.startswith(CALLERS_FOLDERS) else EXPORT
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_rank)  # stable: the rest stays as it was collected


def pytest_collection_finish() -> None:
    """What was imported stays: a sixteenth of a worker's time would go into looking through it."""
    gc.collect()
    gc.freeze()


def _rank(item: pytest.Item) -> int:
    marker = item.get_closest_marker("xdist_group")
    group = marker.args[0] if marker else ""
    return FIRST.index(group) if group in FIRST else len(FIRST)


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> Iterator[None]:
    """Tests press Ctrl-C, here and in processes that they start.

    What a shell starts in the background, or `nohup`, ignores some signals, and so would all that
    it starts in turn: a test would wait for ever.
    """
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = {number: signal.getsignal(number) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.fixture(scope="session", autouse=True)
def _servers_have_ended() -> Iterator[None]:
    """When the last test has: those of the last ones still end."""
    yield
    if "support.servers" in sys.modules:
        sys.modules["support.servers"].all_ended()


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Another worker, or another run of the tests, may be making the same."""
    path.parent.mkdir(exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def mobile_sam_repository() -> Path:
    """A model repository of MobileSAM with its real weights; made once per checkout."""
    from sam_refine_export import export_repository, is_current

    path = ROOT / "build" / "test_model_repository"
    with _one_at_a_time(path):
        if not is_current(path):
            export_repository(path)
    return path


@pytest.fixture(scope="session")
def repository(mobile_sam_repository: Path) -> Path:
    """The same with a quicker image encoder, for what does not depend on how good its masks are."""
    from support.exported.quick_repository import make_quick_repository

    path = ROOT / "build" / "test_quick_repository"
    with _one_at_a_time(path):
        make_quick_repository(mobile_sam_repository, path)
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
    from support.servers import calls_of

    return calls_of(grpc_client)
