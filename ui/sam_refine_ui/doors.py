"""Which of gradio's paths can be reached: only those that the page itself uses.

gradio has more: descriptions of its calls, a way to files of other servers, logins, histories.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PATHS: Final = frozenset(
    {
        "/",
        "/favicon.ico",
        "/manifest.json",
        "/theme.css",
        "/gradio_api/component_server",
        "/gradio_api/queue/data",
        "/gradio_api/queue/join",
        "/gradio_api/run/predict",
        "/gradio_api/startup-events",
        "/gradio_api/upload",
        "/gradio_api/upload_progress",
    }
)
PREFIXES: Final = (
    "/assets/",
    "/static/",
    "/gradio_api/file=/",  # a file of this machine that gradio allows; never an address
    "/gradio_api/heartbeat/",
)


class Doors:
    """ASGI middleware: every other path is "not found"."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and not is_open(scope["path"]):
            app = PlainTextResponse("not found", 404)
        await app(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether the page uses a path."""
    return path in PATHS or path.startswith(PREFIXES)
