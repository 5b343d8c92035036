"""Finds a `tritonserver` to run, and what it needs around it.

There are two kinds: an installed server, as in NVIDIA's container, which has its own backends; and
the one inside the PyPI wheel `nvidia-pytriton`, which needs a backend directory of its own, the
stub of the running Python, and this environment's libraries. `pytriton` itself is never imported:
it is heavy, and only its files are needed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from sam_refine_deploy.errors import ServeError

WHEEL = "nvidia-pytriton"
_INSTALL = "install it with: pip install 'sam-refine[serve]'"


@dataclass(frozen=True)
class TritonServer:
    """A server's executable and what belongs to it."""

    executable: Path
    backends: Path
    """Directory of the backends that came with it."""
    stub: Path | None = None
    """The Python stub to copy into the Python backend; None if the backend has its own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that it needs in addition to, or instead of, those of this process."""


def find_tritonserver(explicit: Path | None = None) -> TritonServer:
    """The server at `explicit`, otherwise `tritonserver` on PATH, otherwise the wheel's.

    Raises `ServeError` if there is none, or if the one that is found cannot work.
    """
    wheel = _wheel_directory()
    executable = explicit or _on_path()
    if executable is None:
        if wheel is None:
            raise ServeError(f"no tritonserver on PATH and no {WHEEL} wheel; {_INSTALL}")
        executable = wheel / "bin" / "tritonserver"
    if not executable.is_file():
        raise ServeError(f"there is no tritonserver at {executable}; give the path of its file")
    if not os.access(executable, os.X_OK):
        raise ServeError(f"{executable} is not executable; run: chmod +x {executable}")
    executable = executable.resolve()
    if wheel is not None and executable == (wheel / "bin" / "tritonserver").resolve():
        return _wheel_server(wheel)
    return _installed_server(executable)


def _on_path() -> Path | None:
    found = shutil.which("tritonserver")
    return Path(found) if found else None


def _installed_server(executable: Path) -> TritonServer:
    """A server laid out as in NVIDIA's container: `bin/tritonserver` next to `backends`."""
    backends = executable.parent.parent / "backends"
    if not (backends / "python").is_dir():
        raise ServeError(
            f"{executable} has no Python backend at {backends / 'python'}; "
            "use a server that has one, such as NVIDIA's tritonserver container"
        )
    return TritonServer(executable, backends)


def _wheel_directory() -> Path | None:
    """The wheel's server in this environment; None without the wheel."""
    spec = find_spec("pytriton")
    locations = spec.submodule_search_locations if spec else None
    directory = Path(next(iter(locations))) / "tritonserver" if locations else None
    return directory if directory is not None and directory.is_dir() else None


def _wheel_server(directory: Path) -> TritonServer:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = directory / "python_backend_stubs"
    stub = stubs / python / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted(path.name for path in stubs.glob("3.*")))
        raise ServeError(
            f"{WHEEL} has no stub for Python {python}; use a Python of {known or 'another wheel'}"
        )
    _check_stub_environment()
    libraries = [Path(sys.base_prefix) / "lib", directory.parent.parent / "nvidia_pytriton.libs"]
    return TritonServer(
        executable=directory / "bin" / "tritonserver",
        backends=directory / "backends",
        stub=stub,
        environment={
            # Python's own directory first: another libpython would miss its extension modules.
            "LD_LIBRARY_PATH": _prepend(libraries, os.environ.get("LD_LIBRARY_PATH")),
            # The stub uses the site-packages of the first python3 on PATH.
            "PATH": _prepend([Path(sys.executable).parent], os.environ.get("PATH", os.defpath)),
        },
    )


def _check_stub_environment() -> None:
    """The stub is to use this environment: it must have the first `python3`, and numpy 1."""
    python3 = Path(sys.executable).parent / "python3"
    if not python3.exists() or not python3.samefile(sys.executable):
        raise ServeError(
            f"{python3}, which Triton's stub would use, is not the running Python; "
            "run from a virtual environment"
        )
    try:
        numpy = version("numpy")
    except PackageNotFoundError:
        raise ServeError(f"numpy is missing; {_INSTALL}") from None
    if int(numpy.split(".")[0]) >= 2:
        raise ServeError(
            f"Triton's Python stub silently corrupts tensors with numpy {numpy}; "
            "install it with: pip install 'numpy<2'"
        )


def _prepend(directories: list[Path], search_path: str | None) -> str:
    return os.pathsep.join([*map(str, directories), *([search_path] if search_path else [])])
