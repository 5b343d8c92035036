"""Runs Algorithm 4's model repository on a Triton server.

Finds a `tritonserver`, adds the backends that it lacks, starts it, waits until it is ready and ends
it cleanly (`launcher`). Keeps it up (`supervisor`). Stands in for a missing `onnxruntime` backend
(`onnx_backend`). Importing the package is light: it loads neither onnxruntime nor pytriton.
"""

from sam_refine_deploy.errors import ServeError, StartCancelledError
from sam_refine_deploy.launcher.server import Server, ServerOptions
from sam_refine_deploy.supervisor.supervise import SupervisorOptions, serve

__all__ = [
    "ServeError",
    "Server",
    "ServerOptions",
    "StartCancelledError",
    "SupervisorOptions",
    "serve",
]
