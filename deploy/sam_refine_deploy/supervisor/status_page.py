"""The supervisor's own port: whether it lives, whether the server is ready, and what was healed."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from sam_refine_deploy.errors import ServeError
from sam_refine_deploy.supervisor.status import Status

_PATIENCE_S: Final = 5.0
"""For a caller to say what it wants."""
_MOST_CONNECTIONS: Final = 64
"""At a time: each takes a thread, and a file of those without which nothing can be watched."""
_BACKLOG: Final = 128
"""Connections that wait to be taken."""


@contextmanager
def status_page(status: Status, host: str, port: int) -> Iterator[None]:
    """Answer on a port until the end of the block. Raises `ServeError` where it is taken.

    /live      200 as long as the supervisor runs
    /ready     200, or 503 with the reasons; warnings in both
    /metrics   for Prometheus
    """

    class Page(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S

        def do_GET(self) -> None:
            match self.path:
                case "/live":
                    self._answer(200, json.dumps({"live": True}), "application/json")
                case "/ready":
                    reasons = status.reasons
                    body = json.dumps(
                        {"ready": not reasons, "reasons": reasons, "warnings": status.warnings}
                    )
                    self._answer(503 if reasons else 200, body, "application/json")
                case "/metrics":
                    text = generate_latest(status.registry).decode()
                    self._answer(200, text, CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, "there are /live, /ready and /metrics\n", "text/plain")

        def _answer(self, code: int, body: str, content_type: str) -> None:
            data = body.encode()
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: probes come every second."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = _BACKLOG

        def process_request(self, request: Any, client_address: Any) -> None:
            connections.take(request)
            super().process_request(request, client_address)

        def shutdown_request(self, request: Any) -> None:
            connections.leave(request)
            super().shutdown_request(request)

        def handle_error(self, request: object, client_address: object) -> None:
            """Nothing: a caller that hangs up is no fault."""

    connections = _Connections()
    try:
        server = Server((host, port), Page)
    except OSError as error:
        raise ServeError(
            f"health_port {port} on {host} cannot be used ({error.strerror}); choose another one"
        ) from error
    with server:
        thread = Thread(target=server.serve_forever, name="status-page", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Connections:
    """The latest connections. Who connects and says nothing does not keep others from asking."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: deque[socket.socket] = deque()

    def take(self, connection: socket.socket) -> None:
        """Have one more, and end the oldest where they are too many."""
        with self._lock:
            self._open.append(connection)
            oldest = self._open.popleft() if len(self._open) > _MOST_CONNECTIONS else None
        if oldest is not None:
            with suppress(OSError):  # it has just ended
                oldest.shutdown(socket.SHUT_RDWR)

    def leave(self, connection: socket.socket) -> None:
        with self._lock, suppress(ValueError):
            self._open.remove(connection)
