"""`sam-refine demo`: the whole way on the photo that comes with it."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from sam_refine_cli.commands.export import DEFAULT_REPOSITORY, run_export
from sam_refine_cli.console import (
    errors_in_one_line,
    need_extra,
    print_result,
    printable,
    stderr,
    stdout,
)
from sam_refine_cli.options.inputs import class_names_of

DEMO_DATA: Final = Path(__file__).parents[1] / "demo_data"
DATA: Final = DEMO_DATA / "portrait"


def demo(
    model_repository: Annotated[
        Path, typer.Option(help="Where the models are, or will be.", file_okay=False)
    ] = DEFAULT_REPOSITORY,
    out: Annotated[Path, typer.Option(help="Directory for the results.", file_okay=False)] = Path(
        "build/demo"
    ),
) -> None:
    """Export MobileSAM, start Triton, refine a photo, write a before/after picture, stop.

    The photo and its class scores come with it:

        sam-refine demo --out build/demo

    The first time it takes a minute or two, most of it for the export.
    """
    need_extra("all", "torch", "onnxruntime", "tritonclient", "cc3d", "PIL")
    from sam_refine_client import RefineClient, RefineError
    from sam_refine_deploy import ServeError, Server, ServerOptions
    from sam_refine_export import ExportError

    with errors_in_one_line(ExportError, ServeError, RefineError, OSError), ExitStack() as stack:
        provide_models(model_repository)
        grpc_port, http_port, metrics_port = free_ports(3)
        with stderr.status("starting Triton"):
            stack.enter_context(
                Server(
                    ServerOptions(
                        model_repository=model_repository,
                        grpc_port=grpc_port,
                        http_port=http_port,
                        metrics_port=metrics_port,
                    )
                )
            )
        client = stack.enter_context(RefineClient(f"127.0.0.1:{grpc_port}"))
        with stderr.status("refining"):
            result = client.refine(
                DATA / "photo.jpg",
                logits=DATA / "coarse_scores.npy",
                outputs=("labels", "coarse_labels", "regions"),
            )
        paths = result.save(
            out,
            image=DATA / "photo.jpg",
            class_names=class_names_of(DATA / "classes.txt"),
        )
    print_result(result)
    for path in paths:
        stdout.print(f"{path}")


def provide_models(repository: Path) -> None:
    """Export MobileSAM where nothing is; what an older version exported from the same weights anew.

    Any other export is taken as it is.
    """
    from sam_refine_export import ExportOptions, inspect_repository
    from sam_refine_export.repository.source import source_of

    if not repository.exists() or not any(repository.iterdir()):
        stderr.print("exporting MobileSAM (once)")
        run_export(repository, ExportOptions())
        return
    inspection = inspect_repository(repository)
    card = inspection.card
    is_from_same_weights = card.source == source_of(ExportOptions())
    if inspection.matches_card and is_from_same_weights and not inspection.recipe_is_current:
        stderr.print("exporting MobileSAM anew, for this version")
        options = ExportOptions(card.model, None, card.precision, card.device, card.max_batch_size)
        run_export(repository, options)
    else:
        stderr.print(f"serving {printable(card.source.name)} from {repository}")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
