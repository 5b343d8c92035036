"""Puts the backends that a server needs into one directory, for `--backend-directory`."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from sam_refine_deploy.errors import ServeError
from sam_refine_deploy.launcher.find_server import TritonServer

ONNXRUNTIME_BACKEND = Path(__file__).parents[1] / "onnx_backend" / "backends" / "onnxruntime"
"""The python-based `onnxruntime` backend."""


def backend_directory(server: TritonServer, working_directory: Path) -> Path:
    """A directory with the backends `python` and `onnxruntime`, for `--backend-directory`.

    A server that has both keeps its own directory; for any other, `backends` is made in
    `working_directory`. Raises `ServeError` if the stand-in for `onnxruntime` is needed and the
    package onnxruntime is not installed.
    """
    if server.stub is None and (server.backends / "onnxruntime").is_dir():
        return server.backends
    if find_spec("onnxruntime") is None:
        raise ServeError(
            "this server has no onnxruntime backend, and the package onnxruntime, which could "
            "replace it, is missing; install it with: pip install 'sam-refine[serve]'"
        )
    directory = working_directory / "backends"
    directory.mkdir(parents=True)
    for backend in server.backends.iterdir():
        if server.stub is not None and backend.name == "python":
            _copy_python_backend(backend, server.stub, directory / "python")
        else:
            (directory / backend.name).symlink_to(backend.resolve(), target_is_directory=True)
    (directory / "onnxruntime").symlink_to(ONNXRUNTIME_BACKEND, target_is_directory=True)
    return directory


def _copy_python_backend(backend: Path, stub: Path, target: Path) -> None:
    """The wheel's Python backend with a stub in it.

    They are copied, not linked: Triton refuses a backend library from another directory, and in its
    old place the stub would find libraries by its built-in path before LD_LIBRARY_PATH.
    """
    shutil.copytree(backend, target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(stub, target / stub.name)
