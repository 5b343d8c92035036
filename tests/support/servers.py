"""Where a test's servers listen."""

from __future__ import annotations

from sam_refine_cli.commands.demo import free_ports


def server_ports() -> dict[str, int]:
    """Three free ports as keyword arguments of `ServerOptions`."""
    return dict(zip(("grpc_port", "http_port", "metrics_port"), free_ports(3), strict=True))
