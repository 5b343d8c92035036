"""deploy/chart/values.yaml: its table in the README, and which values are refused."""

from __future__ import annotations

import importlib.util
import json
import re
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from support.chart.rendered import CHART, RefusedError, notes, render

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
FREE = {"environment", "service.annotations", "nodeSelector", "podAnnotations", "podLabels",
        "serviceAccount.annotations", "serviceMonitor.labels", "prometheusRule.labels",
        "dashboard.labels"}  # fmt: skip
"""Maps whose names are the caller's own."""


def maps(values, prefix=""):
    """Every map among the values, by its path."""
    yield prefix, values
    for name, value in values.items():
        if isinstance(value, dict):
            yield from maps(value, f"{prefix}.{name}".lstrip("."))


def complaints(values) -> list[str]:
    return [
        f"{each.json_path} {each.message}" for each in Draft7Validator(SCHEMA).iter_errors(values)
    ]


def test_readme_has_the_table_that_the_script_makes():
    """Where this fails: python docs/demo/make_chart_table.py."""
    path = ROOT / "docs/demo/make_chart_table.py"
    spec = importlib.util.spec_from_file_location("make_chart_table", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (CHART / "README.md").read_text(encoding="utf-8")
    assert script.with_table(page) == page
    for name, default, text in script.values():
        assert f"| `{name}` | `{json.dumps(default)}` | {text} |\n" in page
        assert len(text) > 2


def test_defaults_are_well_and_schema_has_each_of_them_and_no_more():
    Draft7Validator.check_schema(SCHEMA)
    assert complaints(VALUES) == []

    def names(schema, values, prefix):
        for name, value in values.items():
            assert name in schema["properties"], f"{prefix}{name}"
            if "properties" in schema["properties"][name] and name != "affinity":
                names(schema["properties"][name], value, f"{prefix}{name}.")
        assert schema["properties"].keys() - values.keys() <= {"global"}

    names(SCHEMA, VALUES, "")


@pytest.mark.parametrize("path", [path for path, _ in maps(VALUES) if path not in FREE])
def test_schema_refuses_a_name_that_it_does_not_know(path):
    values = deepcopy(VALUES)
    dict(maps(values))[path]["tpyo"] = 1
    found = complaints(values)
    assert any("'tpyo' was unexpected" in each for each in found), found


def test_every_free_map_is_one():
    assert set(dict(maps(VALUES))) >= FREE


@pytest.mark.parametrize(("path", "wrong"), [
    ("replicas", "2"),
    ("replicas", -1),
    ("gpu.count", 2),
    ("gpu.resource", "gpu"),
    ("resources.memory", "6G"),
    ("resources.memory", "0Gi"),
    ("resources.cpu", "-1"),
    ("sharedMemory.sizeLimit", 1024),
    ("image.pullPolicy", "always"),
    ("image.digest", "sha256:12"),
    ("security.runAsUser", 0),
    ("server.exitTimeoutSeconds", -1),
    ("server.startTimeoutSeconds", 0),
    ("server.extraArguments", ["log-verbose=1"]),
    ("terminationGracePeriodSeconds", 0),
    ("modelRepository.source", "gcs"),
    ("modelRepository.imagePath", "models"),
    ("modelRepository.imagePath", "/my models"),
    ("modelRepository.source", "s3"),
    ("modelRepository.pvc.claimName", ""),
    ("modelRepository.s3.sha256", "abc"),
    ("modelRepository.s3.uri", "https://models/sam.tar"),
    ("tls.enabled", True),
    ("tls.mutual", True),
    ("service.type", "NodePort"),
    ("service.port", 70000),
    ("autoscaling.mode", "vpa"),
    ("autoscaling.mode", "keda"),
    ("autoscaling.minReplicas", 0),
    ("autoscaling.queueRatio", 0),
    ("autoscaling.scaleDownWindowSeconds", 299),
    ("podDisruptionBudget.maxUnavailable", 0),
    ("networkPolicy.clients", [{"podSelectr": {}}]),
    ("networkPolicy.clients", [{}]),
    ("networkPolicy.enabled", "false"),
    ("topologySpread", "never"),
    ("affinity", {"podAfinity": {}}),
    ("podLabels", {"a": 1}),
    ("environment", {"a-b": "c"}),
    ("serviceMonitor.interval", "15"),
    ("prometheusRule.disabled", ["SamRefineSlwo"]),
    ("tracing.enabled", True),
    ("tracing.oneIn", 0),
    ("envoy.retries", 11),
    ("envoy.image.tag", ""),
    ("imagePullSecrets", ["registry"]),
])  # fmt: skip
def test_schema_refuses_a_value_that_cannot_be(path, wrong):
    values = deepcopy(VALUES)
    *parents, name = path.split(".")
    target = values
    for parent in parents:
        target = target[parent]
    assert target[name] != wrong
    target[name] = wrong
    assert complaints(values) != []


def test_notes_say_where_the_service_is_and_what_is_missing():
    text = notes()
    assert "gRPC at sam-refine.maps:8001.\n" in text
    assert 'RefineClient("sam-refine-headless.maps:8001")' in text
    assert "Nobody is told of failures" in text
    assert "networkPolicy.enabled is false" not in text
    everything = {
        "envoy": {"enabled": True}, "tls": {"enabled": True, "secretName": "tls"},
        "serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True},
        "networkPolicy": {"enabled": False}, "autoscaling": {"mode": "hpa"},
    }  # fmt: skip
    text = notes(everything)
    assert "sam-refine.maps:8001, with TLS.\n" in text
    assert "headless" not in text
    assert "Nobody is told of failures" not in text
    assert "networkPolicy.enabled is false" in text
    assert "sam_refine_queue_ratio" in text


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize(("values", "text"), [
    ({"replica": 2}, "replica"),
    ({"server": {"drainDelay": 5}}, "drainDelay"),
    ({"autoscaling": {"scaleDownWindowSeconds": 60}}, "scaleDownWindowSeconds"),
    ({"terminationGracePeriodSeconds": 54},
     "must be at least 55 (drainDelaySeconds, exitTimeoutSeconds and 15), got 54"),
    ({"sharedMemory": {"sizeLimit": "128Mi"}, "largestRequest": "1Mi"},
     "sharedMemory.sizeLimit must be at least 256Mi, got 128Mi"),
    ({"sharedMemory": {"sizeLimit": "1Gi"}, "largestRequest": "300Mi"},
     "sharedMemory.sizeLimit must be at least 4 times largestRequest, 1200Mi, got 1Gi"),
    ({"resources": {"memory": "1Gi"}},
     "resources.memory must be at least 18 times largestRequest, 1152Mi, got 1Gi"),
    ({"autoscaling": {"minReplicas": 9}},
     "autoscaling.minReplicas must be at most maxReplicas, 8, got 9"),
    ({"server": {"extraArguments": ["--grpc-port=9"]}},
     "server.extraArguments must leave out what other values of the chart say, got --grpc-port=9"),
])  # fmt: skip
def test_helm_refuses_what_cannot_work(values, text, major):
    with pytest.raises(RefusedError, match=re.escape(text)):
        render(values, major=major)
