from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sam_refine_deploy import ServeError
from sam_refine_deploy.launcher import find_server as tritonserver
from sam_refine_deploy.launcher.find_server import find_tritonserver

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def no_path(monkeypatch):
    monkeypatch.setenv("PATH", "/no/such/directory")


def program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def installed(directory: Path, *backends: str) -> Path:
    """A server laid out as in NVIDIA's container."""
    for backend in backends:
        (directory / "backends" / backend).mkdir(parents=True)
    return program(directory / "bin" / "tritonserver")


def stub_of(wheel: Path) -> Path:
    return wheel / "python_backend_stubs" / THIS_PYTHON / "triton_python_backend_stub"


@pytest.fixture
def wheel(tmp_path, monkeypatch, no_path):
    """A pytriton package with the files that count here."""
    directory = tmp_path / "site-packages" / "pytriton" / "tritonserver"
    program(directory / "bin" / "tritonserver")
    program(stub_of(directory))
    (directory.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    return directory


def test_find_without_any_server_says_what_to_install(monkeypatch, no_path):
    monkeypatch.setattr(tritonserver, "find_spec", lambda name: None)
    with pytest.raises(ServeError, match=r"no tritonserver on PATH.*'sam-refine\[serve\]'"):
        find_tritonserver()


def test_find_explicit_path_that_is_missing_names_it(tmp_path):
    missing = tmp_path / "tritonserver"
    with pytest.raises(ServeError, match=f"there is no tritonserver at {missing}"):
        find_tritonserver(missing)


def test_find_explicit_path_that_is_not_executable_says_what_to_do(tmp_path):
    with pytest.raises(ServeError, match=r"is not executable; run: chmod \+x"):
        find_tritonserver(program(tmp_path / "tritonserver", 0o644))


def test_find_installed_server_without_python_backend_is_refused(tmp_path):
    with pytest.raises(ServeError, match="has no Python backend"):
        find_tritonserver(installed(tmp_path, "onnxruntime"))


def test_find_installed_server_needs_nothing_around_it(tmp_path):
    executable = installed(tmp_path, "python", "onnxruntime")
    server = find_tritonserver(executable)
    assert server.executable == executable
    assert server.backends == tmp_path / "backends"
    assert server.stub is None
    assert server.environment == {}


def test_find_on_path_comes_before_the_wheel(tmp_path, wheel, monkeypatch):
    executable = installed(tmp_path / "opt", "python")
    monkeypatch.setenv("PATH", str(executable.parent))
    assert find_tritonserver().executable == executable


def test_find_link_on_path_leads_to_the_backends_of_its_target(tmp_path, wheel, monkeypatch):
    executable = installed(tmp_path / "opt", "python")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").symlink_to(executable)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_tritonserver().backends == tmp_path / "opt" / "backends"


def test_find_wheel_gives_stub_libraries_and_python_without_importing_it(wheel, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    server = find_tritonserver()
    assert server.executable == wheel / "bin" / "tritonserver"
    assert server.backends == wheel / "backends"
    assert server.stub == stub_of(wheel)
    libraries = wheel.parent.parent / "nvidia_pytriton.libs"
    assert server.environment["LD_LIBRARY_PATH"].split(os.pathsep) == [
        f"{sys.base_prefix}/lib",
        str(libraries),
        "/mine",
    ]
    assert server.environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_find_wheel_by_its_path_is_the_wheel(wheel):
    assert find_tritonserver(wheel / "bin" / "tritonserver").stub is not None


def test_find_wheel_without_stub_for_this_python_names_those_it_has(wheel):
    stubs = wheel / "python_backend_stubs"
    (stubs / THIS_PYTHON).rename(stubs / "3.8")
    with pytest.raises(ServeError, match=f"no stub for Python {THIS_PYTHON}; use a Python of 3.8"):
        find_tritonserver()


@pytest.mark.parametrize("installed_version", ["2.0.0", "2.3.1rc1"])
def test_find_wheel_beside_numpy_2_is_refused(wheel, monkeypatch, installed_version):
    monkeypatch.setattr(tritonserver, "version", lambda name: installed_version)
    with pytest.raises(ServeError, match=rf"numpy {installed_version}.*pip install 'numpy<2'"):
        find_tritonserver()


def test_find_wheel_beside_another_python3_is_refused(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "bin" / "python3.99")))
    program(tmp_path / "bin" / "python3").write_text("another")
    with pytest.raises(ServeError, match=r"is not the running Python.*virtual environment"):
        find_tritonserver()
