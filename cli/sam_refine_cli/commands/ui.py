"""`sam-refine ui`: a page in the browser that refines one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_refine_cli.commands.demo import DATA
from sam_refine_cli.console import errors_in_one_line, need_extra, stdout
from sam_refine_cli.options.inputs import class_names_of

DEFAULT_URL = "127.0.0.1:8001"


def ui(
    url: Annotated[
        str | None,
        typer.Option(
            help="gRPC address of the server.", show_default=f"SAM_REFINE_URL, or {DEFAULT_URL}"
        ),
    ] = None,
    local: Annotated[
        Path | None,
        typer.Option(
            metavar="REPOSITORY",
            help="Needs no server: refines in this process, with what `sam-refine export` wrote.",
            file_okay=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to bind; anyone who reaches it may use the page.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """Show on a page in the browser what refinement does to your own data.

    With the server on this machine, another one, or none at all:

        sam-refine ui

        sam-refine ui --url 10.0.0.1:8001 --port 7870

        sam-refine ui --local build/model_repository

    It says where the page is; Ctrl-C ends it.
    """
    if url is not None and local is not None:
        raise typer.BadParameter("give --url or --local, not both")
    need_extra("ui", "gradio", "tritonclient", "grpc", "PIL")
    if local is not None:
        need_extra("local", "onnxruntime", "cc3d", "array_api_compat")
    from sam_refine_client import InvalidRequestError, RefineClient, RefineError
    from sam_refine_client.transport.environment import environment_urls
    from sam_refine_ui import Example, PageError, PageOptions, serve

    example = Example(
        photo=DATA / "photo.jpg",
        scores=DATA / "coarse_scores.npy",
        class_names=tuple(class_names_of(DATA / "classes.txt")),
    )
    with errors_in_one_line(InvalidRequestError, RefineError, PageError, OSError):
        if local is None:
            named = ", ".join([url] if url else environment_urls())
            client, server = RefineClient(url), f"the server at `{named}`"
        else:
            client, server = RefineClient.local(local), f"`{local}`, in this process"
        with client:
            serve(
                client,
                server,
                example,
                PageOptions(host, port),
                lambda address: stdout.print(f"ready: {address} (Ctrl-C ends it)"),
            )
