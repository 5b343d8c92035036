"""Dashboard, alerts and traces of deploy/chart, on a real server under a few requests."""

from __future__ import annotations

import itertools
import json
import math
import re
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import yaml
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from sam_refine_client import RefineClient, RefineOptions
from support.cases import coarse_scores, photo
from support.chart.observed import collecting, scraping
from support.chart.rendered import CHART, render
from support.servers import supervised, wait_until

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("export")]

DASHBOARD = json.loads((CHART / "files/dashboards/sam-refine.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
LABELS = {"namespace": "maps", "service": "sam-refine-metrics", "pod": "sam-refine-0"}
OPTIONS = RefineOptions(mask_prompt="none", min_region_area=4)


@pytest.fixture(scope="module")
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def service(repository, collector, tmp_path_factory):
    """Supervised, with the tracing of the chart's pods, but for the collector's address."""
    url = "http://collector:4318/v1/traces"
    (pod,) = render({"tracing": {"enabled": True, "url": url}})["Deployment", ""]["spec"][
        "template"
    ]["spec"]["containers"]
    arguments = [word.replace(url, collector.url) for word in pod["args"] if "trace-config" in word]
    assert len(arguments) == 5
    arguments[arguments.index("--trace-config=rate=100")] = "--trace-config=rate=1"
    arguments.append("--trace-config=opentelemetry,bsp_schedule_delay=100")  # instead of 5 s
    log = tmp_path_factory.mktemp("observed") / "serve.log"
    options = {"extra_arguments": arguments, "log_to_stderr": True}
    with supervised(repository, log, options=options) as service:
        yield service


@pytest.fixture
def client(service):
    with RefineClient(service.url) as client:
        yield client


@contextmanager
def span(number: int):
    """The current span of a caller, by OpenTelemetry's own means."""
    context = SpanContext(number, number + 1, False, TraceFlags(TraceFlags.SAMPLED))
    with use_span(NonRecordingSpan(context)):
        yield f"{number:032x}", f"{number + 1:016x}"


def refine(client, seed: int = 0, **arguments):
    image = np.roll(photo(96, 128), seed, axis=1)
    return client.refine(image, logits=coarse_scores(), options=OPTIONS, **arguments)


# --- traces ---


def traced(client, collector, number: int):
    """A request in a span of its caller's: its spans by id, its own id, both ids of the caller."""
    with span(number) as (trace, caller):
        result = refine(client, seed=number)

    def ended():
        found = [each for each in list(collector.spans) if each.parent in ("", caller)]
        mine = {each.trace for each in list(collector.spans)
                if each.attributes.get("triton.request_id") == result.request_id}  # fmt: skip
        return [each for each in found if each.trace in mine]

    wait_until(ended)
    (root,) = ended()
    return (
        {each.id: each for each in collector.of_trace(root.trace)},
        result.request_id,
        trace,
        caller,
    )


def test_caller_s_span_is_the_root_of_every_network_s(client, collector):
    """This Triton loses the caller's span of a few requests: not of all."""
    for number in itertools.count(0xAB0, 2):
        spans, request_id, trace, caller = traced(client, collector, number)
        if {each.trace for each in spans.values()} == {trace}:
            break
    above = {(each.name, spans[each.parent].name if each.parent in spans else each.parent)
             for each in spans.values() if each.name != "compute"}  # fmt: skip
    assert above == {
        ("InferRequest", caller),
        ("sam_refine", "InferRequest"),
        ("sam_embed", "sam_refine"),
        ("sam_preprocess", "sam_embed"),
        ("sam_image_encoder", "sam_embed"),
        ("sam_mask_decoder", "sam_refine"),
    }
    computed = {spans[each.parent].name for each in spans.values() if each.name == "compute"}
    assert computed == {"sam_refine", "sam_preprocess", "sam_image_encoder", "sam_mask_decoder"}
    ids = {each.attributes["triton.request_id"] for each in spans.values() if each.attributes}
    assert ids == {request_id}


# --- logs ---


def test_server_s_log_is_on_stderr(service):
    assert "Started GRPCInferenceService" in service.log.read_text()


# --- metrics ---


@pytest.fixture(scope="module")
def metrics(service, tmp_path_factory):
    """Prometheus, while somebody sends requests."""
    ports = [service.ports["metrics_port"], service.health_port]
    ended = threading.Event()

    def ask():
        with RefineClient(service.url) as client:
            seed = 0
            while not ended.wait(0.2):
                refine(client, seed=seed // 2)  # each image twice
                seed += 1

    folder = tmp_path_factory.mktemp("prometheus")
    with scraping(folder, ports, LABELS, CHART / "files/alerts.yaml") as found:
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    ("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS]
)
def test_panel_has_data(title, expression, metrics):
    if "nv_gpu_" in expression:
        pytest.skip("there is no GPU here, and so no such series")
    expression = (
        expression.replace("$__rate_interval", "30s")
        .replace("$namespace", "maps")
        .replace("$service", ".*")
    )
    wait_until(lambda: any(map(math.isfinite, metrics.query(expression))))


def test_alerts_ask_for_series_that_there_are(metrics):
    (*_, last) = EXPRESSIONS
    test_panel_has_data(*last, metrics)  # so that everything has been scraped
    text = (CHART / "files/alerts.yaml").read_text(encoding="utf-8")
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    selectors = {
        selector for rule in rules
        for selector in re.findall(r"(?:nv|sam_refine)_[a-z_]+(?:\{[^}]*\})?", rule["expr"])
    }  # fmt: skip
    assert len(selectors) > 10
    for selector in selectors:
        wait_until(lambda selector=selector: metrics.query(selector))
    groups = metrics.ask("rules")["groups"]
    found = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert found.keys() == {rule["alert"] for rule in rules}
    wait_until(lambda: all(rule["health"] == "ok" for group in metrics.ask("rules")["groups"]
                           for rule in group["rules"]))  # fmt: skip
    assert not metrics.query('ALERTS{alertstate="firing"}')


def test_panels_lie_beside_each_other_and_say_what_they_show():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Is it up?", "Is it slow?", "Is it starving?", "Is it worth it?"]
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
