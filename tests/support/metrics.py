"""A server's metrics, read."""

from __future__ import annotations

import urllib.request


def scrape(metrics_port: int) -> dict[str, float]:
    """The values of all series, each by its name and labels as the page writes them."""
    url = f"http://127.0.0.1:{metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as page:
        lines = page.read().decode().splitlines()
    series = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in series}
