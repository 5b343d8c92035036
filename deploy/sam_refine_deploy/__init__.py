"""Runs Algorithm 4's model repository on a Triton server.

Finds a `tritonserver`, adds the backends that it lacks, starts it, waits until it is ready and ends
it cleanly (`launcher`). Keeps it up (`supervisor`). Stands in for a missing `onnxruntime` backend
(`onnx_backend`). Importing the package is light: it loads neither onnxruntime nor pytriton, and
what starts servers when it is asked for, since each stub of the backend imports the package, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam_refine_deploy.errors import ServeError, StartCancelledError
    from sam_refine_deploy.launcher.server import Server, ServerOptions
    from sam_refine_deploy.supervisor.supervise import SupervisorOptions, serve

_MODULES = {
    "ServeError": "errors",
    "Server": "launcher.server",
    "ServerOptions": "launcher.server",
    "StartCancelledError": "errors",
    "SupervisorOptions": "supervisor.supervise",
    "serve": "supervisor.supervise",
}

__all__ = [
    "ServeError",
    "Server",
    "ServerOptions",
    "StartCancelledError",
    "SupervisorOptions",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
