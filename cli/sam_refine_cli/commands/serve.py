"""`sam-refine serve`: Triton on a model repository, kept up."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from sam_refine_cli.commands.export import DEFAULT_REPOSITORY
from sam_refine_cli.console import errors_in_one_line, stdout


def serve(
    triton_arguments: Annotated[
        list[str] | None, typer.Argument(help="After --: passed on to tritonserver as they are.")
    ] = None,
    model_repository: Annotated[
        Path, typer.Option(help="Made by `sam-refine export`.", file_okay=False)
    ] = DEFAULT_REPOSITORY,
    host: Annotated[
        str, typer.Option(help="Address to bind; anyone who reaches it may send requests.")
    ] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=1, max=65535)] = 8001,
    http_port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535)] = 8002,
    health_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Serves /live, /ready and /metrics of its own.")
    ] = 8003,
    tritonserver: Annotated[
        Path | None, typer.Option(help="The server; else from PATH, else nvidia-pytriton's.")
    ] = None,
    log_file: Annotated[Path | None, typer.Option(help="Keep the server's log here.")] = None,
    log_to_stderr: Annotated[
        bool, typer.Option("--log-to-stderr", help="Copy it to stderr, for containers.")
    ] = False,
    start_timeout_s: Annotated[float, typer.Option(help="Give up after.", min=1)] = 120,
    exit_timeout_s: Annotated[
        int, typer.Option(help="What requests in flight get after a signal.", min=0)
    ] = 30,
    drain_delay_s: Annotated[
        float,
        typer.Option(
            help="After a signal serve on for so long, not ready: until balancers have seen it.",
            min=0,
        ),
    ] = 0.0,
) -> None:
    """Serve a model repository with Triton until SIGINT or SIGTERM.

    On this machine only, or for those who reach an address of it:

        sam-refine serve

        sam-refine serve --host 10.0.0.1 --grpc-port 9001

        sam-refine serve -- --grpc-use-ssl=1 --grpc-server-cert=a.crt --grpc-server-key=a.key

    Ready it says so in one line; then `sam-refine health` finds it. A process of it that ends or
    stops is replaced, and a line on stderr says so.
    """
    from sam_refine_deploy import ServeError, Server, ServerOptions, SupervisorOptions
    from sam_refine_deploy import serve as serve_until_signal

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)

    options = ServerOptions(
        model_repository=model_repository,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        tritonserver=tritonserver,
        log_file=log_file,
        log_to_stderr=log_to_stderr,
        start_timeout_s=start_timeout_s,
        exit_timeout_s=exit_timeout_s,
        extra_arguments=tuple(triton_arguments or ()),
    )
    supervisor = SupervisorOptions(health_port=health_port, drain_delay_s=drain_delay_s)

    def ready(server: Server) -> None:
        stdout.print(
            f"ready: gRPC {server.grpc_address}, HTTP {server.http_address}, "
            f"metrics http://{server.metrics_address}/metrics, "
            f"health http://{server.reachable(health_port)}/ready",
        )

    with errors_in_one_line(ServeError, OSError):
        raise typer.Exit(serve_until_signal(options, ready, supervisor))
