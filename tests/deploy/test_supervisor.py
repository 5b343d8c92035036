"""A server that is kept up: what happens to its processes, and what becomes of it."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import venv
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from sam_refine.contract.serving.keys import SHARED_MEMORY_HEADER, read_key
from sam_refine.contract.serving.run_directory import INSTANCES
from sam_refine_deploy import ServeError, Server, ServerOptions, SupervisorOptions, serve
from sam_refine_deploy.launcher.stubs import ProcessState, process_state
from sam_refine_deploy.supervisor.watch import Cause, Fault, Watch
from support.servers import free_ports, supervised, wait_until
from support.tiny_models import STAND_IN, ZEROS_MODEL

pytestmark = pytest.mark.triton

NOBODY = 65534
PTRACE_SEIZE, PTRACE_INTERRUPT, WAIT_FOR_THREADS = 0x4206, 0x4207, 0x40000000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "serve.log"


def answers(service) -> None:
    """A request by a caller that never tries again."""
    tensor = grpc.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 2), np.float32))
    with grpc.InferenceServerClient(service.url) as client:
        np.testing.assert_array_equal(
            client.infer(STAND_IN, [tensor]).as_numpy("y"), np.ones((1, 2))
        )


def test_stub_that_is_killed_is_replaced_and_nothing_else(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        assert service.is_ready()
        (before,) = service.stubs(STAND_IN)
        os.kill(before.process_id, signal.SIGKILL)
        reloads = f'sam_refine_model_reloads_total{{cause="ended",model="{STAND_IN}"}}'
        wait_until(lambda: service.metric(reloads) == 1)  # it may be ready again before one asks
        assert service.ask("/live")[0] == 200
        wait_until(service.is_ready)
        answers(service)
        (after,) = service.stubs(STAND_IN)
        assert after.process_id != before.process_id
        assert service.server == service.first_server
        assert service.metric("sam_refine_unready_seconds_total") > 0
        assert service.metric("sam_refine_ready") == 1
    (line,) = log.read_text().splitlines()
    assert re.fullmatch(rf"{STAND_IN} was loaded anew in \S+ s: a process of it had ended", line)


def test_kernel_short_of_memory_ends_stubs_first_and_the_supervisor_last(tiny_repository, log):
    def points(process_id):
        return int(Path(f"/proc/{process_id}/oom_score_adj").read_text())

    with supervised(tiny_repository, log) as service:
        own = points(service.process.pid)
        (before,) = service.stubs(STAND_IN)
        assert points(service.server) == min(own + 50, 1000)
        assert points(before.process_id) == min(own + 500, 1000)
        os.kill(before.process_id, signal.SIGKILL)
        reloads = f'sam_refine_model_reloads_total{{cause="ended",model="{STAND_IN}"}}'
        wait_until(lambda: service.metric(reloads) == 1)
        (after,) = service.stubs(STAND_IN)
        assert points(after.process_id) == min(own + 500, 1000)


def test_what_an_instance_says_of_itself_is_on_the_page_and_counted(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        (stub,) = service.stubs(STAND_IN)
        file = service.run_directory / INSTANCES / f"{stub.process_id}.warning"
        file.write_text("it runs on the CPU")
        wait_until(lambda: service.metric("sam_refine_warnings") == 1)
        answer = json.loads(service.ask("/ready")[1])
        assert answer == {"ready": True, "reasons": [], "warnings": ["it runs on the CPU"]}
        os.kill(stub.process_id, signal.SIGKILL)
        wait_until(lambda: service.metric("sam_refine_warnings") == 0)


def test_stub_that_is_stopped_goes_on(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        (stub,) = service.stubs(STAND_IN)
        os.kill(stub.process_id, signal.SIGSTOP)
        continued = f'sam_refine_processes_continued_total{{model="{STAND_IN}"}}'
        wait_until(lambda: service.metric(continued) == 1)
        answers(service)
        goes_on = [each.process_id for each in service.stubs(STAND_IN)] == [stub.process_id]
        assert goes_on or service.has_ended_itself(stub.process_id)


def test_tritonserver_that_is_stopped_goes_on(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        os.kill(service.server, signal.SIGSTOP)
        continued = 'sam_refine_processes_continued_total{model="tritonserver"}'
        wait_until(lambda: service.metric(continued) == 1)
        answers(service)
        assert service.server == service.first_server


def hang(process_id: int) -> list[int]:
    """Halt all threads of a process as a debugger does, which SIGCONT does not undo."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    threads = [int(thread.name) for thread in Path(f"/proc/{process_id}/task").iterdir()]
    for thread in threads:
        assert libc.ptrace(PTRACE_SEIZE, thread, 0, 0) == 0, os.strerror(ctypes.get_errno())
        assert libc.ptrace(PTRACE_INTERRUPT, thread, 0, 0) == 0
    return threads


def let_die(threads: list[int]) -> None:
    """What a debugger halts is gone only when the debugger has seen its end."""
    for thread in threads:
        with suppress(ChildProcessError):
            os.waitpid(thread, os.WNOHANG | WAIT_FOR_THREADS)


def test_tritonserver_that_hangs_is_started_anew(tiny_repository, log):
    times = {
        "sam_refine_deploy.supervisor.liveness._ASK_S": 0.1,
        "sam_refine_deploy.supervisor.liveness._PATIENCE_S": 0.5,
    }
    with supervised(tiny_repository, log, constants=times) as service:
        threads = hang(service.server)
        restarts = 'sam_refine_server_restarts_total{cause="silent"}'

        def is_restarted():
            let_die(threads)
            return service.metric(restarts) == 1

        wait_until(is_restarted)
        wait_until(service.is_ready)
        answers(service)
        assert service.server != service.first_server
    assert "starting anew in 0 s: tritonserver did not answer any more" in log.read_text()


def test_stub_that_hangs_is_replaced(tiny_repository, log):
    times = {"sam_refine_deploy.supervisor.watch.SILENT_S": 1.0}
    with supervised(tiny_repository, log, constants=times) as service:
        (stub,) = service.stubs(STAND_IN)
        threads = hang(stub.process_id)
        reloads = f'sam_refine_model_reloads_total{{cause="silent",model="{STAND_IN}"}}'

        def is_replaced():
            let_die(threads)
            return service.metric(reloads) == 1

        wait_until(is_replaced)
        wait_until(service.is_ready)
        answers(service)


@pytest.mark.parametrize(
    ("trouble", "number"),
    [
        ("dead stub", signal.SIGTERM),
        ("dead stub", signal.SIGINT),
        ("idle connections", signal.SIGTERM),
        ("idle connections", signal.SIGINT),
        ("idle connections", signal.SIGHUP),
    ],
)
def test_end_is_clean_whatever_there_is(tiny_repository, log, trouble, number):
    with supervised(tiny_repository, log) as service, ExitStack() as stack:
        if trouble == "dead stub":
            (stub,) = service.stubs(STAND_IN)
            os.kill(stub.process_id, signal.SIGKILL)
        else:
            client = stack.enter_context(grpc.InferenceServerClient(service.url))
            assert client.is_server_live()
            for port in (*service.ports.values(), service.health_port):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        service.process.send_signal(number)
        assert service.process.wait() == 0
        assert not service.run_directory.exists()


def test_terminal_that_is_closed_ends_nothing_where_that_is_ignored(tiny_repository, log):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with supervised(tiny_repository, log) as service:
            service.process.send_signal(signal.SIGHUP)
            answers(service)
            assert service.is_ready()
            assert service.server == service.first_server
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("removed", [".", "instances", "backends/python", "empty"])
def test_server_whose_folder_somebody_removes_is_started_anew(tiny_repository, log, removed):
    with supervised(tiny_repository, log) as service:
        shutil.rmtree(service.run_directory / removed)
        wait_until(lambda: service.metric('sam_refine_server_restarts_total{cause="worn"}') == 1)
        wait_until(service.is_ready)
        answers(service)
        assert service.server != service.first_server
        assert not service.run_directory.exists()
    (line,) = log.read_text().splitlines()
    assert line == f"starting anew in 0 s: files were removed from {service.run_directory}"


def test_likeness_of_a_repository_that_somebody_removes_is_missed(tiny_repository, tmp_path, log):
    odd = shutil.copytree(tiny_repository, tmp_path / "a path of spaces")
    with supervised(odd, log) as service:
        shutil.rmtree(service.run_directory / "models")
        wait_until(lambda: service.metric('sam_refine_server_restarts_total{cause="worn"}') == 1)
        wait_until(service.is_ready)
        answers(service)


def test_callers_of_the_health_page_that_say_nothing_keep_nobody_from_asking(tiny_repository, log):
    def files():
        return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))

    with supervised(tiny_repository, log) as service, ExitStack() as stack:
        before = files()
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.health_port)))
        assert service.is_ready()
        wait_until(lambda: files() < before + 100)


def test_supervisor_without_a_file_to_open_goes_on_when_it_has_one(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        answers(service)
        supervisor = service.process.pid
        limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, limits[1]))
        wait_until(lambda: "the server's processes cannot be watched now" in log.read_text())
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
        wait_until(service.is_ready)
        answers(service)
        assert service.server == service.first_server
    assert len(log.read_text().splitlines()) == 1


def test_server_may_have_more_connections_than_a_shell_has_files(tiny_repository, log):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with supervised(tiny_repository, log) as service:
            expected = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
            assert resource.prlimit(service.server, resource.RLIMIT_NOFILE) == (expected, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_stub_that_is_stopped_while_the_server_ends_goes_on(tiny_repository, log):
    with supervised(tiny_repository, log, drain_delay_s=4.0) as service:
        service.process.terminate()
        wait_until(lambda: not service.is_ready())
        (stub,) = service.stubs(STAND_IN)
        os.kill(stub.process_id, signal.SIGSTOP)
        answers(service)
        assert service.ask("/ready")[0] == 503
        assert service.process.wait() == 0
    assert "was stopped and is told to go on" in log.read_text()


def test_tritonserver_that_is_killed_is_started_anew(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        os.kill(service.server, signal.SIGKILL)
        wait_until(lambda: service.metric('sam_refine_server_restarts_total{cause="ended"}') == 1)
        wait_until(service.is_ready)
        answers(service)
        assert service.server != service.first_server
        assert not service.run_directory.exists()
    assert re.fullmatch(
        r"starting anew in 0 s: tritonserver ended by itself \(signal SIGKILL\): .*\n",
        log.read_text(),
        re.DOTALL,
    )


def test_stub_that_dies_before_the_watch_begins_is_missed(tiny_repository, ports):
    with Server(ServerOptions(tiny_repository, **ports)) as server:
        (stub,) = [stub for stub in server.stubs() if stub.model == STAND_IN]
        os.kill(stub.process_id, signal.SIGKILL)
        wait_until(lambda: process_state(stub.process_id) is ProcessState.ENDED)
        assert stub not in server.stubs()
        assert Watch(server, hang_timeout_s=900).look() == [Fault(stub, Cause.ENDED)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_process_that_dies_or_stops_while_it_starts_costs_one_start(tiny_repository, log, number):
    with supervised(tiny_repository, log, options={"start_timeout_s": 1e6}) as service:
        os.kill(service.server, signal.SIGKILL)
        wait_until(lambda: service.server not in (0, service.first_server))
        wait_until(lambda: service.stubs(STAND_IN))
        os.kill(service.stubs(STAND_IN)[0].process_id, number)
        wait_until(service.is_ready)
        answers(service)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_process_that_dies_or_stops_while_it_is_loaded_anew(tiny_repository, log, number):
    with supervised(tiny_repository, log, options={"exit_timeout_s": 10**6}) as service:
        (before,) = service.stubs(STAND_IN)
        os.kill(before.process_id, signal.SIGKILL)
        wait_until(lambda: service.stubs(STAND_IN) not in ([before], []))
        for stub in service.stubs(STAND_IN):
            os.kill(stub.process_id, number)
        wait_until(lambda: service.is_ready() and service.stubs(STAND_IN) != [before])
        answers(service)


def test_server_that_starts_again_is_not_given_up_however_often_it_is_killed(tiny_repository, log):
    most = {"sam_refine_deploy.supervisor.supervise._MOST_FAILED_STARTS": 2}
    with supervised(tiny_repository, log, constants=most) as service:
        restarts = 'sam_refine_server_restarts_total{cause="ended"}'
        for count in range(1, 4):
            os.kill(service.server, signal.SIGKILL)
            wait_until(lambda count=count: service.metric(restarts) == count)
            wait_until(service.is_ready)
        answers(service)
    assert log.read_text().count("starting anew in 0 s") == 3


def test_server_that_never_lives_long_is_given_up(tiny_repository, log):
    most = {"sam_refine_deploy.supervisor.supervise._MOST_SHORT_LIVES": 2}
    with supervised(tiny_repository, log, constants=most) as service:
        os.kill(service.server, signal.SIGKILL)
        wait_until(lambda: service.server not in (0, service.first_server))
        wait_until(service.is_ready)
        os.kill(service.server, signal.SIGKILL)
        assert service.process.wait() == 1
    assert "gave up after 2 starts of which none lasted 60 s: tritonserver" in log.read_text()


def test_server_that_was_healed_often_is_started_anew_when_it_is_idle(tiny_repository, log):
    most = {"sam_refine_deploy.supervisor.healing._MOST_RELOADS": 0}
    with supervised(tiny_repository, log, constants=most) as service:
        (stub,) = service.stubs(STAND_IN)
        os.kill(stub.process_id, signal.SIGKILL)
        restarts = 'sam_refine_server_restarts_total{cause="worn"}'
        wait_until(lambda: service.metric(restarts) == 1)
        wait_until(service.is_ready)
        answers(service)
        assert service.server != service.first_server
    assert "starting anew in 0 s: 0 reloads are enough" in log.read_text()


def test_server_that_does_not_start_again_is_given_up(tiny_repository, log):
    patience = {
        "sam_refine_deploy.supervisor.supervise._FIRST_PAUSE_S": 0.01,
        "sam_refine_deploy.supervisor.supervise._MOST_FAILED_STARTS": 3,
    }
    with supervised(tiny_repository, log, constants=patience) as service:
        (tiny_repository / STAND_IN / "1" / "model.onnx").write_bytes(b"damaged")
        os.kill(service.server, signal.SIGKILL)
        assert service.process.wait() == 1
    last = [line for line in log.read_text().splitlines() if "ServeError" in line][-1]
    assert "gave up after 3 failed starts in a row: tritonserver did not start" in last


def test_health_port_that_is_taken_names_it(tiny_repository, ports):
    port = ports["grpc_port"]
    options = ServerOptions(tiny_repository, **ports)
    with pytest.raises(ServeError, match=f"ports must differ, got {port} twice"):
        serve(options, print, SupervisorOptions(health_port=port))
    (taken,) = free_ports(1)
    with (
        http_server(taken),
        pytest.raises(ServeError, match=f"health_port {taken} on 127.0.0.1 cannot be used"),
    ):
        serve(options, print, SupervisorOptions(health_port=taken))


def http_server(port):
    import socketserver

    return socketserver.TCPServer(("127.0.0.1", port), socketserver.BaseRequestHandler)


@pytest.mark.parametrize("field", ["health_port", "drain_delay_s", "hang_timeout_s"])
def test_options_that_cannot_be_name_the_field(field):
    with pytest.raises(ServeError, match=f"^{field} must be"):
        SupervisorOptions(**{field: -1})


# --- Keys -----------------------------------------------------------------------------------------


def test_who_has_no_key_loads_no_model_registers_no_memory_and_changes_no_settings(
    tiny_repository, log
):
    with supervised(tiny_repository, log) as service:
        restricted = "is restricted"
        with grpc.InferenceServerClient(service.url) as client:
            for call in (
                lambda: client.load_model(STAND_IN),
                lambda: client.unload_model(STAND_IN),
                client.get_system_shared_memory_status,
                client.unregister_system_shared_memory,
                lambda: client.register_system_shared_memory("a", "/a", 8),
                lambda: client.register_cuda_shared_memory("a", b"", 0, 8),
                lambda: client.update_log_settings({"log_verbose_level": 5}),
                lambda: client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
            ):
                with pytest.raises(InferenceServerException, match=restricted):
                    call()
            key = read_key(service.ports["grpc_port"])
            status = client.get_system_shared_memory_status(headers={SHARED_MEMORY_HEADER: key})
            assert not status.regions
        address = f"127.0.0.1:{service.ports['http_port']}"
        with http.InferenceServerClient(address) as client:
            for call in (
                lambda: client.load_model(STAND_IN),
                client.get_system_shared_memory_status,
                lambda: client.register_system_shared_memory("a", "/a", 8),
                lambda: client.update_log_settings({"log_verbose_level": 5}),
                lambda: client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
            ):
                with pytest.raises(InferenceServerException, match=restricted):
                    call()
        answers(service)


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
def test_another_user_finds_no_key(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        port = service.ports["grpc_port"]
        key = read_key(port)
        assert key is not None
        assert len(key) >= 32
        command_line = Path(f"/proc/{service.server}/cmdline").read_bytes()
        assert b"--grpc-restricted-protocol=shared-memory:" in command_line
        assert key.encode() not in command_line
        assert b"key=*" in command_line
        keys = f"/tmp/sam-refine-keys-{os.getuid()}/{port}"
        for path in (keys, f"/proc/{service.server}/environ", service.run_directory / "owner.lock"):
            found = subprocess.run(
                ["cat", path], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True
            )
            assert (found.stdout, found.returncode) == (b"", 1)
            assert b"Permission denied" in found.stderr
        assert service.end() == 0
        assert read_key(port) is None


def test_key_of_another_run_is_another_one(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        before = read_key(service.ports["grpc_port"])
        os.kill(service.server, signal.SIGKILL)
        wait_until(lambda: service.metric('sam_refine_server_restarts_total{cause="ended"}') == 1)
        wait_until(service.is_ready)
        assert read_key(service.ports["grpc_port"]) not in (None, before)


# --- What killed runs leave -----------------------------------------------------------------------


def shared_memory_of(run_directory: Path) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{run_directory.name.replace('-', '_')}_*"))


def test_next_start_removes_what_a_killed_one_has_left_and_nothing_of_a_live_one(
    tiny_repository, log, tmp_path
):
    with supervised(tiny_repository, log) as live:
        with supervised(tiny_repository, tmp_path / "killed.log") as killed:
            stubs = [stub.process_id for stub in killed.stubs()]
            server = killed.server
            killed.process.kill()
            os.kill(server, signal.SIGKILL)
        assert killed.run_directory.exists()
        assert shared_memory_of(killed.run_directory)
        with supervised(tiny_repository, tmp_path / "next.log") as service:
            assert not killed.run_directory.exists()
            assert not shared_memory_of(killed.run_directory)
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in [server, *stubs]))
            answers(service)
        assert live.run_directory.exists()
        assert shared_memory_of(live.run_directory)
        answers(live)


def test_folder_of_somebody_else_or_of_other_files_stays(tiny_repository, log, tmp_path):
    base = tmp_path / "temporary"
    (base / "sam-refine-notes").mkdir(parents=True)
    (base / "sam-refine-link").symlink_to(tmp_path)
    owned = base / "sam-refine-1-0123456789ab"
    owned.mkdir()
    environment = {**os.environ, "TMPDIR": str(base)}
    with (owned / "owner.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with supervised(tiny_repository, log, environment=environment) as service:
            assert service.end() == 0
    assert {path.name for path in base.iterdir()} == {
        "sam-refine-notes", "sam-refine-link", owned.name,
    }  # fmt: skip
    assert tiny_repository.exists()


# --- Paths ----------------------------------------------------------------------------------------


ODD_NAMES = [
    "My Projects",
    "jürgen",
    "it's",
    'a"b',
    "a\nb",
    "q$(touch ran)q",
    "`touch ran`",
    "a;b&c",
]


def test_repository_at_any_path_is_served_and_nothing_of_it_is_run(
    tiny_repository, log, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    place = tmp_path.joinpath(*ODD_NAMES, "models")
    place.parent.mkdir(parents=True)
    shutil.move(tiny_repository, place)
    with supervised(place, log) as service:
        answers(service)
        assert service.end() == 0
    assert not list(tmp_path.rglob("ran"))


def test_temporary_folder_at_any_path_will_do(tiny_repository, log, tmp_path):
    place = tmp_path / "q$(touch ran)q ü"
    place.mkdir()
    with supervised(
        tiny_repository, log, environment={**os.environ, "TMPDIR": str(place)}
    ) as service:
        answers(service)
        assert service.run_directory.parent == Path("/tmp")
        assert service.end() == 0
    assert list(place.iterdir()) == []
    assert not list(tmp_path.rglob("ran"))


def test_python_at_any_path_runs_the_stubs(tiny_repository, log, tmp_path):
    """An environment as of a checkout there, with a package that is installed for editing."""
    place = tmp_path / "My Projects" / "jürgen's checkout"
    venv.create(place / ".venv", symlinks=True)
    package = place / "src" / "editable_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (packages,) = (place / ".venv/lib").glob("python*/site-packages")
    paths = [*filter(None, sys.path), str(package.parent)]
    (packages / "editable.pth").write_text("\n".join(paths), encoding="utf-8")
    model = tiny_repository / "asks" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    model.write_text("import editable_package\n" + ZEROS_MODEL, encoding="utf-8")
    (tiny_repository / "asks" / "config.pbtxt").write_text('backend: "python"\n')
    python = str(place / ".venv" / "bin" / "python")
    with supervised(tiny_repository, log, python=python) as service:
        answers(service)
        assert service.stubs("asks")


def test_model_whose_file_has_such_a_name_is_refused(tiny_repository, log, tmp_path, ports):
    place = tmp_path / "My Projects"
    shutil.move(tiny_repository, place)
    (place / STAND_IN / "1" / "a b.txt").touch()
    with pytest.raises(ServeError, match=r"must have names of letters, .*1/a b\.txt'"):
        serve(ServerOptions(place, **ports), print, SupervisorOptions(free_ports(1)[0]))


def test_state_is_json(tiny_repository, log):
    with supervised(tiny_repository, log) as service:
        assert json.loads(service.ask("/ready")[1]) == {
            "ready": True,
            "reasons": [],
            "warnings": [],
        }
        assert json.loads(service.ask("/live")[1]) == {"live": True}
        assert service.ask("/")[0] == 404
