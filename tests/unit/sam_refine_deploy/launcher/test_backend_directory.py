from __future__ import annotations

from pathlib import Path

import pytest

from sam_refine_deploy import ServeError
from sam_refine_deploy.launcher import backend_directory as module
from sam_refine_deploy.launcher.backend_directory import ONNXRUNTIME_BACKEND, backend_directory
from sam_refine_deploy.launcher.find_server import TritonServer


@pytest.fixture
def backends(tmp_path) -> Path:
    python = tmp_path / "server" / "backends" / "python"
    (python / "__pycache__").mkdir(parents=True)
    (python / "libtriton_python.so").write_bytes(b"library")
    return python.parent


@pytest.fixture
def working_directory(tmp_path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


def test_server_with_its_own_onnxruntime_keeps_its_directory(backends, working_directory):
    (backends / "onnxruntime").mkdir()
    server = TritonServer(Path("tritonserver"), backends)
    assert backend_directory(server, working_directory) == backends
    assert list(working_directory.iterdir()) == []


def test_server_without_onnxruntime_gets_links_and_the_stand_in(backends, working_directory):
    directory = backend_directory(TritonServer(Path("tritonserver"), backends), working_directory)
    assert directory.parent == working_directory
    assert (directory / "python").resolve() == backends / "python"
    assert (directory / "onnxruntime").resolve() == ONNXRUNTIME_BACKEND.resolve()


def test_wheel_gets_a_copy_of_its_python_backend_with_the_stub(
    backends, working_directory, tmp_path
):
    stub = tmp_path / "triton_python_backend_stub"
    stub.write_bytes(b"stub")
    stub.chmod(0o755)
    server = TritonServer(Path("tritonserver"), backends, stub)
    python = backend_directory(server, working_directory) / "python"
    assert sorted(path.name for path in python.iterdir()) == ["libtriton_python.so", stub.name]
    assert not any(path.is_symlink() for path in (python, *python.iterdir()))
    assert (python / stub.name).stat().st_mode & 0o111


def test_stand_in_without_onnxruntime_says_what_to_install(
    backends, working_directory, monkeypatch
):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ServeError, match=r"onnxruntime .* is missing.*'sam-refine\[serve\]'"):
        backend_directory(TritonServer(Path("tritonserver"), backends), working_directory)


def test_stand_in_is_where_triton_looks_for_it():
    assert (ONNXRUNTIME_BACKEND / "model.py").is_file()
