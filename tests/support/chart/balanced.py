"""Envoy as deploy/chart configures it, on this machine: only addresses are others."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.chart.rendered import RELEASE, render
from support.chart.tools import envoy
from support.servers import Supervised, free_ports, get, wait_until

TLS_FILES = ("tls.crt", "tls.key", "ca.crt")
"""Of the chart's secret, mounted at /tls."""


@dataclass(frozen=True)
class Envoy:
    port: int
    """Of gRPC."""
    health_port: int
    admin_port: int

    def stat(self, name: str) -> int:
        """A counter or gauge of Envoy's."""
        _, text = get(f"http://127.0.0.1:{self.admin_port}/stats?filter=^{name}$")
        return int(text.rpartition(":")[2])

    def active(self) -> list[int]:
        """Requests in flight at each server."""
        _, text = get(f"http://127.0.0.1:{self.admin_port}/clusters")
        marks = (
            line.rpartition("::") for line in text.splitlines() if line.startswith("servers::")
        )
        return [int(value) for name, _, value in marks if name.endswith("::rq_active")]


@contextmanager
def balancing(
    servers: Sequence[Supervised], folder: Path, values: dict[str, Any]
) -> Iterator[Envoy]:
    """The chart's Envoy before these servers; `folder` has the files of its secret."""
    rendered = render({**values, "envoy": {"enabled": True}})["ConfigMap", "-envoy"]["data"][
        "envoy.yaml"
    ]
    for name in TLS_FILES:
        rendered = rendered.replace(f"/tls/{name}", str(folder / name))
    configuration = yaml.safe_load(rendered)
    grpc_port, health_port, admin_port = free_ports(3)
    _listen(configuration["admin"], admin_port)
    listeners = configuration["static_resources"]["listeners"]
    for listener, port in zip(listeners, (grpc_port, health_port), strict=True):
        _listen(listener, port)
    of_servers, of_admin = configuration["static_resources"]["clusters"]
    _listen(of_admin["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"], admin_port)
    group = of_servers["load_assignment"]["endpoints"][0]
    (template,) = group["lb_endpoints"]
    asked = template["endpoint"]["address"]["socket_address"]
    assert asked == {"address": f"{RELEASE}-headless", "port_value": 8001}
    group["lb_endpoints"] = [_endpoint(template, server) for server in servers]
    path = folder / "envoy.yaml"
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    options = ["--disable-hot-restart", "--log-level", "warning", "--concurrency", "2"]
    with (folder / "envoy.log").open("w") as log:
        process = subprocess.Popen(
            [envoy(), "--config-path", path, *options], stdout=log, stderr=log
        )
    found = Envoy(grpc_port, health_port, admin_port)
    try:
        wait_until(lambda: process.poll() is not None or _is_ready(found, len(servers)))
        assert process.poll() is None, (folder / "envoy.log").read_text()
        yield found
    finally:
        process.terminate()
        process.wait()


def _listen(what: dict[str, Any], port: int) -> None:
    what["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}


def _endpoint(template: dict[str, Any], server: Supervised) -> dict[str, Any]:
    endpoint = copy.deepcopy(template)
    _listen(endpoint["endpoint"], server.ports["grpc_port"])
    endpoint["endpoint"]["health_check_config"]["port_value"] = server.health_port
    return endpoint


def _is_ready(found: Envoy, servers: int) -> bool:
    try:
        is_ready = get(f"http://127.0.0.1:{found.health_port}/ready")[0] == 200
    except OSError:
        return False
    return is_ready and found.stat("cluster.servers.membership_healthy") == servers
