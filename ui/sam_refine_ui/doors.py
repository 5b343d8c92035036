"""Which of gradio's paths can be reached, and from where: only what the page itself uses.

gradio has more paths: descriptions of its calls, a way to files of other servers, logins,
histories. And a browser sends requests that another site's page makes: those name that site as
their origin, or, where its name was made to point here, as the host.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

UPLOAD: Final = "/gradio_api/upload"
PATHS: Final = frozenset(
    {
        "/",
        "/favicon.ico",
        "/manifest.json",
        "/theme.css",
        "/gradio_api/cancel",
        "/gradio_api/component_server",
        "/gradio_api/queue/data",
        "/gradio_api/queue/join",
        "/gradio_api/reset",
        "/gradio_api/run/predict",
        "/gradio_api/startup-events",
        UPLOAD,
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
    """ASGI middleware: every other path is "not found", every other site "forbidden"."""

    def __init__(self, app: ASGIApp, host: str, uploads: Path, most_upload_bytes: int) -> None:
        """`host`: what the page listens on. `uploads` may have so many bytes in all."""
        self._app = app
        self._host = host
        self._uploads = uploads
        self._most_upload_bytes = most_upload_bytes
        self._coming_bytes = 0
        """Of uploads that are under way, which have been let in and may not be on disk yet."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not is_open(scope["path"]):
                app = PlainTextResponse("not found", 404)
            elif not is_own(headers.get("host", ""), headers.get("origin"), self._host):
                app = PlainTextResponse("forbidden: the page is called by another site", 403)
            elif scope["path"] == UPLOAD:
                app = self._refused(headers.get("content-length", "")) or self._let_in
        await app(scope, receive, send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An upload, which counts as kept from its beginning on."""
        length = int(Headers(scope=scope)["content-length"])
        self._coming_bytes += length
        try:
            await self._app(scope, receive, send)
        finally:
            self._coming_bytes -= length

    def _refused(self, length: str) -> ASGIApp | None:
        """The answer to an upload for which there is no room; None where there is."""
        if not length.isdecimal():
            return PlainTextResponse("an upload must say its Content-Length", 411)
        if kept_bytes(self._uploads) + self._coming_bytes + int(length) <= self._most_upload_bytes:
            return None
        return PlainTextResponse(
            f"the page keeps at most {self._most_upload_bytes >> 20} MiB of uploads, each for some "
            "hours: come back later, or start it anew",
            413,
        )


def kept_bytes(directory: Path) -> int:
    """Of all files in a directory, which may not be there yet; files may go meanwhile."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def is_own(host: str, origin: str | None, listens_on: str) -> bool:
    """Whether a request comes from the page itself.

    Its `Origin` header, if it has one, names its `Host`. A page that listens on a loopback address
    is called by a name of this machine; one that listens elsewhere may have any.
    """
    if origin is not None and urlsplit(origin).netloc != host:
        return False
    return not _is_loopback(listens_on) or _is_loopback(urlsplit(f"//{host}").hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_open(path: str) -> bool:
    """Whether the page uses a path."""
    return path in PATHS or path.startswith(PREFIXES)
