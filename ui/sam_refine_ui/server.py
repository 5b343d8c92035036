"""Serves the page until a signal comes; by default only to this machine."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sam_refine_client import RefineClient
from sam_refine_client.steps.waiting import wait_for
from sam_refine_ui.example import Example

MAX_UPLOAD_BYTES: Final = 512 * 2**20
"""Limit of one file: scores of 150 classes at 1024 x 2048 / 4 in float32 are 300 MiB."""
MAX_UPLOADS_BYTES: Final = 4 * 2**30
"""Limit of all that are kept at a time."""
_ENVIRONMENT: Final = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",  # would offer to put every run into a bucket of Hugging Face
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
"""Nothing that is done on the page is sent anywhere else."""


class PageError(Exception):
    """The page cannot be served: one sentence with the reason."""


@dataclass(frozen=True)
class PageOptions:
    """Where the page is served."""

    host: str = "127.0.0.1"
    """Address or name to listen on; whoever reaches it may use the page."""
    port: int = 7860


def serve(
    client: RefineClient,
    server: str,
    example: Example,
    options: PageOptions,
    ready: Callable[[str], None],
) -> None:
    """Serve the page until SIGINT or SIGTERM; `ready` is called with its address once it is there.

    `server` is Markdown that tells on the page what `client` calls. Uploads are kept in a temporary
    directory that is removed at the end. Raises `PageError` if the page cannot listen on the
    address.
    """
    _check_address(options)
    with TemporaryDirectory(prefix="sam-refine-ui-") as directory, _signals() as ended:
        scratch = Path(directory)
        uploads = scratch / "uploads"
        # gradio reads these when it is imported, so it is imported afterwards.
        os.environ.update(_ENVIRONMENT, GRADIO_TEMP_DIR=str(uploads))
        os.environ.update(_past_proxies(options.host))
        from starlette.middleware import Middleware

        from sam_refine_ui.actions import Actions
        from sam_refine_ui.doors import Doors
        from sam_refine_ui.page import CSS, build, theme

        actions = Actions(client, _copied(example, scratch), scratch / "results")
        page = build(actions, server)
        try:
            _, address, _ = page.launch(
                server_name=f"[{options.host}]" if ":" in options.host else options.host,
                server_port=options.port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                inbrowser=False,
                show_error=True,
                max_file_size=MAX_UPLOAD_BYTES,
                allowed_paths=[],
                footer_links=[],
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                app_kwargs={
                    "middleware": [Middleware(Doors, options.host, uploads, MAX_UPLOADS_BYTES)]
                },
                theme=theme(),
                css=CSS,
            )
        except OSError as error:
            raise PageError(
                f"the page cannot be served at {options.host}:{options.port}"
            ) from error
        try:
            ready(address)
            wait_for(ended, math.inf)
        finally:
            page.close(verbose=False)


def _past_proxies(host: str) -> dict[str, str]:
    """Variables that keep gradio's own call of the page, when it starts, away from proxies."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    past = ",".join(filter(None, (known, host, "localhost")))
    return {"no_proxy": past, "NO_PROXY": past}


def _copied(example: Example, directory: Path) -> Example:
    """The example with copies of its files where gradio may read them, and nothing else."""
    photo, scores = (Path(shutil.copy(path, directory)) for path in (example.photo, example.scores))
    return replace(example, photo=photo, scores=scores)


def _check_address(options: PageOptions) -> None:
    """Raise `PageError` if the page cannot listen on the address."""
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the page does: a port whose last connections are in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PageError(
            f"port {options.port} on {options.host} cannot be used ({error.strerror}); "
            "choose another one"
        ) from error


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set inside the block."""
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
