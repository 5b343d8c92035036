"""A Prometheus that scrapes a server, and a collector of spans."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from support.chart.tools import prometheus
from support.servers import free_ports, get, wait_until


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[float]:
        """The values of an expression now. Raises `ValueError` where it is none."""
        return [
            float(series["value"][1]) for series in self.ask("query", query=expression)["result"]
        ]

    def ask(self, page: str, **parameters: str) -> Any:
        """The data of a page of its API. Raises `ValueError` for an error."""
        _, body = get(f"{self.url}/api/v1/{page}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(body)
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]


@contextmanager
def scraping(
    folder: Path, ports: list[int], labels: dict[str, str], rules: Path
) -> Iterator[Prometheus]:
    """Prometheus on these ports of this machine, once a second, with rules."""
    (port,) = free_ports(1)
    targets = [{"targets": [f"127.0.0.1:{each}"], "labels": labels} for each in ports]
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "sam-refine", "static_configs": targets}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                prometheus("prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    found = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: process.poll() is not None or _is_ready(found))
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield found
    finally:
        process.kill()
        process.wait()


def _is_ready(found: Prometheus) -> bool:
    try:
        return get(f"{found.url}/-/ready")[0] == 200
    except OSError:
        return False


@dataclass
class Span:
    name: str
    id: str
    parent: str
    trace: str
    attributes: dict[str, str]


@dataclass
class Collector:
    """Takes spans by OTLP over HTTP, as JSON."""

    url: str
    spans: list[Span] = field(default_factory=list)

    def of_trace(self, trace: str) -> list[Span]:
        return [span for span in list(self.spans) if span.trace == trace]


@contextmanager
def collecting() -> Iterator[Collector]:
    (port,) = free_ports(1)
    collector = Collector(f"http://127.0.0.1:{port}/v1/traces")

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            collector.spans += list(_spans(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()


def _spans(body: dict[str, Any]) -> Iterator[Span]:
    for resource in body["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                attributes = {
                    each["key"]: str(next(iter(each["value"].values())))
                    for each in span.get("attributes", ())
                }
                parent = span.get("parentSpanId", "")
                yield Span(span["name"], span["spanId"], parent, span["traceId"], attributes)
