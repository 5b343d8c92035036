"""A server's life: what stops its start, and what is left when it ends."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc

from sam_refine_deploy import (
    ServeError,
    Server,
    ServerOptions,
    StartCancelledError,
    SupervisorOptions,
    serve,
)
from sam_refine_deploy.launcher.stubs import ProcessState, process_state
from support.fake_triton import PATIENCE_S
from support.servers import free_ports
from support.tiny_models import STAND_IN, hold_back

pytestmark = pytest.mark.triton

SERVE = """
import sys
from pathlib import Path
from sam_refine_deploy import ServerOptions, SupervisorOptions, serve
repository, grpc_port, http_port, metrics_port, health_port = sys.argv[1:]
options = ServerOptions(
    Path(repository), grpc_port=int(grpc_port), http_port=int(http_port),
    metrics_port=int(metrics_port),
)
supervisor = SupervisorOptions(int(health_port))
sys.exit(serve(options, lambda server: print(server.process_id, flush=True), supervisor))
"""


@pytest.fixture(autouse=True)
def temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers put their working directories."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    return directory


@pytest.fixture(autouse=True)
def _nothing_is_left_in_shared_memory():
    before = set(regions())
    yield
    assert set(regions()) == before


def regions(process: int | None = None) -> list[str]:
    """Shared memory of servers that `process`, else this one, has started."""
    return [path.name for path in Path("/dev/shm").glob(f"sam_refine_{process or os.getpid()}_*")]


def processes_of_session(session: int) -> list[str]:
    """The names of the live processes that a server started, itself included."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (directory / "stat").read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        state, _, _, process_session = rest.split()[:4]
        if int(process_session) == session and state != "Z":
            found.append(name)
    return found


def wait_until(condition) -> bool:
    """Come back when it holds, however long that takes: the test's time limit ends it."""
    while not condition():
        time.sleep(0.05)
    return True


def is_pending(ports: dict[str, int], model: str) -> bool:
    """Whether a request waits for a model."""
    pending = rf'nv_inference_pending_request_count{{model="{model}",.*}} [1-9]'
    return re.search(pending, metrics(ports["metrics_port"]).decode()) is not None


def metrics(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as page:
            return page.read()
    except urllib.error.URLError:  # the last service to open
        return b""


def start_serve(repository: Path, ports: dict[str, int]) -> tuple[subprocess.Popen[str], int]:
    """`serve` in a process of its own, ready; and the process id of its tritonserver."""
    numbers = map(str, (*ports.values(), *free_ports(1)))
    command = [sys.executable, "-c", SERVE, str(repository), *numbers]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_block_runs_a_server_and_leaves_nothing(tiny_repository, ports, temporary_directory):
    with Server(ServerOptions(tiny_repository, **ports)) as server:
        assert len(processes_of_session(server.process_id)) == 2
        assert regions() != []
        port = ports["metrics_port"]
        assert wait_until(lambda: b"nv_inference_request_summary_us" in metrics(port))
        assert server.poll() is None
    assert server.poll() is not None  # killed where a busy machine makes its end take seconds
    assert server.ended_cleanly
    assert wait_until(lambda: processes_of_session(server.process_id) == [])
    assert list(temporary_directory.iterdir()) == []


def test_block_of_a_server_has_large_pages_unless_told_otherwise(
    tiny_repository, ports, monkeypatch
):
    for expected in (b"glibc.malloc.hugetlb=1", b"glibc.malloc.hugetlb=0"):
        with Server(ServerOptions(tiny_repository, **ports)) as server:
            environment = Path(f"/proc/{server.process_id}/environ").read_bytes().split(b"\0")
        assert b"GLIBC_TUNABLES=" + expected in environment
        monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_after_signal_ends_cleanly(tiny_repository, ports, temporary_directory, number):
    process, server = start_serve(tiny_repository, ports)
    process.send_signal(number)
    assert process.wait() == 0
    assert wait_until(lambda: processes_of_session(server) == [])
    assert regions(process.pid) == []
    assert list(temporary_directory.iterdir()) == []


def test_serve_killed_takes_its_server_along(tiny_repository, ports):
    process, server = start_serve(tiny_repository, ports)
    process.kill()
    process.wait()
    assert wait_until(lambda: processes_of_session(server) == [])
    assert regions(process.pid) == []


def test_serve_whose_server_does_not_end_kills_it(tiny_repository, ports, temporary_directory):
    servers = []

    def stop(server):
        servers.append(server.process_id)
        os.kill(server.process_id, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    options = ServerOptions(tiny_repository, exit_timeout_s=0, **ports)
    assert serve(options, stop, SupervisorOptions(*free_ports(1))) == 1
    assert signal.getsignal(signal.SIGTERM) == handler
    assert wait_until(lambda: processes_of_session(servers[0]) == [])
    assert list(temporary_directory.iterdir()) == []


def test_serve_after_signal_answers_requests_in_flight(tiny_repository, ports):
    hold_back(tiny_repository, STAND_IN, seconds=3)
    process, _ = start_serve(tiny_repository, ports)
    tensor = grpc.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 2), np.float32))
    answers = queue.Queue()
    with grpc.InferenceServerClient(f"127.0.0.1:{ports['grpc_port']}") as client:
        # The batcher holds a lone request back.
        client.async_infer(STAND_IN, [tensor], lambda result, error: answers.put((result, error)))
        assert wait_until(lambda: is_pending(ports, STAND_IN) or not answers.empty())
        process.terminate()
        result, error = answers.get(timeout=PATIENCE_S)
    assert error is None
    np.testing.assert_array_equal(result.as_numpy("y"), [[1, 1]])
    assert process.wait() == 0


def test_process_that_is_stopped_while_requests_are_waited_for_goes_on(tiny_repository, ports):
    with Server(ServerOptions(tiny_repository, **ports)) as server:
        (stub,) = server.stubs()
        os.kill(stub.process_id, signal.SIGSTOP)
        assert wait_until(lambda: process_state(stub.process_id) is ProcessState.STOPPED)
        assert server.drain()
        assert process_state(stub.process_id) is ProcessState.RUNS


def test_server_whose_time_to_end_is_over_loads_nothing_anew(tiny_repository, ports):
    with Server(ServerOptions(tiny_repository, exit_timeout_s=0, **ports)) as server:
        before = server.stubs()
        assert not server.drain()
        with pytest.raises(ServeError, match=f"{STAND_IN}/unload"):
            server.reload(STAND_IN, 300, threading.Event())
        assert server.stubs() == before


def test_start_that_is_cancelled_leaves_nothing(tiny_repository, ports, temporary_directory):
    cancelled = threading.Event()
    cancelled.set()
    server = Server(ServerOptions(tiny_repository, **ports), cancelled)
    with pytest.raises(StartCancelledError), server:
        pytest.fail("it started")
    assert wait_until(lambda: processes_of_session(server.process_id) == [])
    assert list(temporary_directory.iterdir()) == []


def test_start_with_a_log_file_that_cannot_be_written_says_so(tiny_repository, ports, tmp_path):
    options = ServerOptions(tiny_repository, log_file=tmp_path / "no" / "log", **ports)
    with (
        pytest.raises(ServeError, match=r"no/log cannot be written: No such file"),
        Server(options),
    ):
        pytest.fail("it started")


def test_start_of_models_that_do_not_load_names_each_reason(tiny_repository, ports, tmp_path):
    config = tiny_repository / STAND_IN / "config.pbtxt"
    text = config.read_text().replace('"y" data_type: TYPE_FP32', '"z" data_type: TYPE_FP32')
    config.write_text(text.replace("dims: [ 1 ]", "dims: [ 5 ]"))
    log_file = tmp_path / "server.log"
    options = ServerOptions(tiny_repository, log_file=log_file, start_timeout_s=10_000, **ports)
    with pytest.raises(ServeError) as error, Server(options):
        pytest.fail("it started")
    assert (
        f"{STAND_IN}: configuration and model.onnx differ: "
        "output 'z' is not in the graph, which has y, batch_size; "
        "output 'batch_size' has shape [-1, 5], in the graph [-1, 1]\n"
    ) in str(error.value)
    assert str(log_file) in str(error.value)
    assert "Traceback" not in str(error.value)
    assert "failed to load" in log_file.read_text()


def test_start_that_fails_with_its_log_on_stderr_names_the_reason_too(
    tiny_repository, ports, capfd
):
    (tiny_repository / STAND_IN / "1" / "model.onnx").write_bytes(b"damaged")
    with (
        pytest.raises(ServeError, match=f"{STAND_IN}: ") as raised,
        Server(ServerOptions(tiny_repository, **ports, log_to_stderr=True)),
    ):
        pytest.fail("it started")
    assert "it left no log" not in str(raised.value)
    assert f"failed to load '{STAND_IN}'" in capfd.readouterr().err


def test_start_of_unknown_backend_value_names_key_and_value(tiny_repository, ports):
    config = tiny_repository / STAND_IN / "config.pbtxt"
    parameter = 'parameters [ { key: "execution_mode" value { string_value: "both" } } ]'
    config.write_text(config.read_text() + parameter)
    with (
        pytest.raises(ServeError, match="parameter execution_mode must be one of 0, 1, got 'both'"),
        Server(ServerOptions(tiny_repository, **ports)),
    ):
        pytest.fail("it started")


def test_start_of_configuration_that_cannot_be_read_says_where(tiny_repository, ports):
    config = tiny_repository / STAND_IN / "config.pbtxt"
    config.write_text(config.read_text() + "max_batch_sizes: 3")
    with (
        pytest.raises(ServeError, match='no field named "max_batch_sizes"'),
        Server(ServerOptions(tiny_repository, **ports)),
    ):
        pytest.fail("it started")


def test_start_beyond_its_timeout_ends_the_server(tiny_repository, ports, temporary_directory):
    server = Server(ServerOptions(tiny_repository, start_timeout_s=0.05, **ports))
    with pytest.raises(ServeError, match=r"not ready after 0\.05 s"), server:
        pytest.fail("it started")
    assert wait_until(lambda: processes_of_session(server.process_id) == [])
    assert list(temporary_directory.iterdir()) == []


@pytest.mark.parametrize("name", ["grpc_port", "http_port", "metrics_port"])
def test_start_on_a_port_that_is_taken_names_it(tiny_repository, ports, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[name]))
        taken.listen()
        with (
            pytest.raises(ServeError, match=f"{name} {ports[name]} on 127.0.0.1 .*in use"),
            Server(ServerOptions(tiny_repository, **ports)),
        ):
            pytest.fail("it started")


def test_start_with_extra_arguments_passes_them_on(tiny_repository, ports):
    with (
        pytest.raises(ServeError, match="unrecognized option '--no_such_option=1'"),
        Server(ServerOptions(tiny_repository, extra_arguments=("--no_such_option=1",), **ports)),
    ):
        pytest.fail("it started")
