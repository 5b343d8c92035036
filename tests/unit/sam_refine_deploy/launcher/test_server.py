from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

import sam_refine_deploy
from sam_refine_client import Retries
from sam_refine_deploy import ServeError, Server, ServerOptions
from sam_refine_deploy.launcher import server as module


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"grpc_port": 0}, r"grpc_port must be in \[1, 65535\], got 0"),
        ({"metrics_port": 65536}, r"metrics_port must be in \[1, 65535\], got 65536"),
        ({"http_port": 8001}, "ports must differ, got 8001, 8001, 8002"),
        ({"start_timeout_s": -1}, "start_timeout_s must be >= 0, got -1"),
        ({"exit_timeout_s": float("nan")}, "exit_timeout_s must be >= 0, got nan"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(ServeError, match=text):
        ServerOptions(Path("models"), **options)


def test_options_bind_loopback_by_default():
    assert ServerOptions(Path("models")).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:8001"),
        ("localhost", "127.0.0.1:8001"),
        ("0.0.0.0", "127.0.0.1:8001"),
    ],
)
def test_addresses_are_reachable_from_this_machine(host, address):
    assert Server(ServerOptions(Path("models"), host=host)).grpc_address == address


@pytest.mark.parametrize("host", ["::1", "no such host", "300.1.1.1"])
def test_host_that_is_no_ipv4_address_is_refused(host):
    with pytest.raises(ServeError, match=f"host must be an IPv4 address .*got '{host}'"):
        Server(ServerOptions(Path("models"), host=host))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["--disable-auto-complete-config"]),
        (("--log-verbose=1",), ["--disable-auto-complete-config"]),
        (("--model-repository=/more/models",), []),
        (("--model-store", "/more/models"), []),
    ],
)
def test_triton_completes_nothing_where_all_is_said(arguments, expected):
    models = Path(__file__).parents[4] / "model_repository"
    server = Server(ServerOptions(models, extra_arguments=arguments))
    assert list(server._completion()) == expected


def test_server_that_never_started_has_no_process():
    server = Server(ServerOptions(Path("models")))
    assert server.poll() is None
    with pytest.raises(ServeError, match="has not been started"):
        _ = server.process_id


def test_little_shared_memory_is_warned_of(monkeypatch, caplog):
    usage = namedtuple("usage", "total used free")(0, 0, 64 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with caplog.at_level(logging.WARNING):
        module._warn_of_little_shared_memory()
    assert "/dev/shm has 64 MiB free" in caplog.text
    assert "at least 256 MiB is advisable" in caplog.text


def test_stub_whose_library_is_missing_is_named(tmp_path):
    stub = tmp_path / "stub"
    stub.write_text("#!/bin/sh\necho 'stub: error while loading libpython3.so' >&2; exit 127\n")
    stub.chmod(0o755)
    with pytest.raises(ServeError, match=r"error while loading libpython3.so; use a Python built"):
        module._check_stub(stub, dict(os.environ))


def test_launched_program_takes_its_launchers_place():
    command = [sys.executable, "-I", str(module._LAUNCH), str(os.getpid()), "/bin/sh", "-c"]
    with subprocess.Popen([*command, "echo $$"], stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate()[0].strip() == str(process.pid)
    assert process.returncode == 0


def test_launched_program_without_its_parent_does_not_start():
    command = [sys.executable, "-I", str(module._LAUNCH), "1", "/bin/echo", "started"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "the parent ended" in done.stderr


def test_callers_have_called_again_before_a_model_that_was_healed_is_unloaded():
    assert Retries().longest_wait_s < module._CALLED_AGAIN_S


def test_package_import_is_light():
    code = (
        "import sys, sam_refine_deploy; heavy = {'numpy', 'onnxruntime', 'psutil', 'pytriton', "
        "'torch', 'tritonclient'}; print(heavy & sys.modules.keys()); "
        "import sam_refine_deploy.supervisor.supervise; "
        "print((heavy - {'numpy', 'psutil'}) & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.split() == ["set()", "set()"]


def test_package_has_what_it_names_and_nothing_else():
    assert all(getattr(sam_refine_deploy, name) for name in sam_refine_deploy.__all__)
    with pytest.raises(AttributeError, match="'sam_refine_deploy' has no attribute 'Servers'"):
        _ = sam_refine_deploy.Servers
