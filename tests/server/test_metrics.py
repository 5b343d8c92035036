"""What a real server shows of its work, and that no wrong value ends it."""

from __future__ import annotations

import math
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from sam_refine.contract import STAGES
from sam_refine_deploy import Server, ServerOptions
from support.cases import coarse_scores, photo
from support.metrics import scrape
from support.servers import server_ports
from support.tiny_models import add_model, make_repository

pytestmark = pytest.mark.triton

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
SIZE = (120, 180)
OPTIONS = {"mask_prompt": "none", "min_region_area": 4}
OUTPUTS = ["REFINED_LABELS", "COARSE_LABELS", "REGION_KEPT", "STAGE_TIMES_MS"]
REQUEST = {"IMAGE": photo(*SIZE), "LOGITS_FP16": coarse_scores()}


@pytest.fixture
def added(server):
    """added(): by how much each series has changed since the last look."""
    last = scrape(server.metrics_port)

    def look():
        nonlocal last
        before, last = last, scrape(server.metrics_port)
        return {name: value - before.get(name, 0) for name, value in last.items()}

    return look


def regions(changes):
    return {
        result: changes[f'sam_refine_regions_total{{result="{result}"}}']
        for result in ("kept", "failed", "dropped")
    }


def failures(changes):
    """The reasons that have been counted, with their numbers."""
    found = {
        reason: changes[f'sam_refine_request_failures_total{{reason="{reason}"}}']
        for reason in re.findall(r"^\| `(\w+)` \| (?:caller|server) \|", PAGE, re.MULTILINE)
    }
    assert len(found) == 9
    return {reason: count for reason, count in found.items() if count}


def test_server_shows_every_series_that_the_page_names(server):
    series = set(scrape(server.metrics_port))
    for name, kind, label, values in re.findall(
        r"^\| `(sam_refine_\w+)` \| (\w+) \| (?:`(\w+)`: )?(.*?) ?\| ",
        PAGE.partition("## What was healed")[0],
        re.MULTILINE,
    ):
        suffix = "_count" if kind == "histogram" else ""
        labels = [f'{{{label}="{value}"}}' for value in re.findall(r"`(\w+)`", values)] or [""]
        assert {f"{name}{suffix}{each}" for each in labels} <= series
    names = {each.partition("{")[0] for each in series}
    of_triton = re.findall(r"^\| `(nv_\w+)`", PAGE, re.MULTILINE)
    assert len(of_triton) == 7
    assert {name for name in of_triton if not name.startswith("nv_gpu_")} <= names


def test_refinement_is_counted_as_its_outputs_say(infer, added):
    everything = infer(REQUEST, ["REGION_KEPT"], {**OPTIONS, "min_region_area": 0})["REGION_KEPT"]
    assert regions(added()) == {
        "kept": everything.sum(), "failed": (~everything).sum(), "dropped": 0,
    }  # fmt: skip
    outputs = infer(REQUEST, OUTPUTS, OPTIONS)
    changes = added()
    kept = outputs["REGION_KEPT"]
    assert 0 < kept.sum() < len(kept) < len(everything)
    assert regions(changes) == {
        "kept": kept.sum(), "failed": (~kept).sum(), "dropped": len(everything) - len(kept),
    }  # fmt: skip
    for stage, time_ms in zip(STAGES, outputs["STAGE_TIMES_MS"], strict=True):
        label = f'{{stage="{stage}"}}'
        done = 0 if stage == "judge" else 1
        assert changes[f"sam_refine_stage_duration_seconds_count{label}"] == done
        seconds = changes[f"sam_refine_stage_duration_seconds_sum{label}"]
        assert seconds * 1000 == pytest.approx(time_ms, rel=1e-3)
    changed = (outputs["REFINED_LABELS"] != outputs["COARSE_LABELS"]).mean()
    assert changed > 0
    assert changes["sam_refine_changed_pixels_ratio_sum"] == pytest.approx(changed)
    assert changes['sam_refine_changed_pixels_ratio_bucket{le="0"}'] == 0


def test_request_without_labels_or_without_regions_is_counted_as_what_it_is(infer, added):
    infer(REQUEST, ["REGION_KEPT"], OPTIONS)
    assert added()["sam_refine_changed_pixels_ratio_count"] == 0
    nothing = infer(REQUEST, OUTPUTS, {**OPTIONS, "min_region_area": 10**6})
    assert len(nothing["REGION_KEPT"]) == 0
    changes = added()
    assert changes['sam_refine_changed_pixels_ratio_bucket{le="0"}'] == 1
    assert changes['sam_refine_stage_duration_seconds_count{stage="decode"}'] == 0
    assert changes['sam_refine_stage_duration_seconds_count{stage="split_regions"}'] == 1


@pytest.mark.parametrize(
    ("inputs", "parameters", "reason"),
    [
        ({}, {}, "invalid_tensor"),
        (REQUEST, {"iou_threshold": 2}, "invalid_option"),
        (REQUEST, {"max_regions": 1}, "limit"),
    ],
)
def test_refused_request_counts_under_its_reason(infer, added, inputs, parameters, reason):
    times = 3
    for _ in range(times):
        with pytest.raises(InferenceServerException):
            infer(inputs, ["REFINED_LABELS"], parameters)
    changes = added()
    assert failures(changes) == {reason: times}
    assert regions(changes) == {"kept": 0, "failed": 0, "dropped": 0}
    # what the page says of Triton's own count, which comes after the answer
    success = 'nv_inference_request_success{model="sam_refine",version="1"}'
    while changes[success] < times:  # the test's time limit ends it
        time.sleep(0.05)
        changes = {name: value + changes[name] for name, value in added().items()}
    assert changes[success] <= times + 1  # that of the request of the test before may come now
    assert not any(
        value for name, value in changes.items() if name.startswith("nv_inference_request_failure")
    )


def test_caller_who_went_away_counts_as_cancelled(infer, added):
    rows, columns = np.indices(SIZE) // 2 % 2
    cells = (rows & columns).astype(np.int32)  # 1350 regions, and the one around them: 43 calls
    with pytest.raises(InferenceServerException) as caught:
        infer({**REQUEST, "LABELS": cells}, ["REGION_IOUS"], client_timeout=1.5)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    found, give_up = {}, time.monotonic() + 60
    while not found and time.monotonic() < give_up:
        time.sleep(0.05)
        found = failures(added())
    assert found == {"cancelled": 1}


def test_tensor_of_a_wrong_rank_is_counted_nowhere(infer, added):
    with pytest.raises(InferenceServerException, match="unexpected shape"):
        infer({**REQUEST, "LOGITS_FP16": np.zeros((2, 3), np.float16)}, ["REGION_KEPT"])
    changes = added()
    assert failures(changes) == {}
    counted = r'nv_inference_request_(?:success|failure)\{model="sam_refine"'
    assert not any(value for name, value in changes.items() if re.match(counted, name))


def test_embeddings_in_the_cache_are_counted(infer, added):
    for expected in (1, 0):
        infer({**REQUEST, "IMAGE": photo(101, 151)}, ["REGION_KEPT"], OPTIONS)
        changes = added()
        assert changes["sam_refine_embedding_cache_entries"] == expected
        assert changes['sam_refine_embedding_cache_lookups_total{result="miss"}'] == expected
        assert changes['sam_refine_embedding_cache_lookups_total{result="hit"}'] == 1 - expected


# --- Values that cannot be right ----------------------------------------------------------------

PROBE = "metrics_probe"
PROBE_CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "VALUE" data_type: TYPE_FP64 dims: [ 1 ] } ]
output [ { name: "PROCESS" data_type: TYPE_INT64 dims: [ 1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""
PROBE_MODEL = """
import os, time
import numpy as np
import triton_python_backend_utils as pb
from sam_refine.triton.metrics import ROWS, Metric

class TritonPythonModel:
    def initialize(self, args):
        assert issubclass(pb.TritonModelException, Exception)
        self.metrics = [(Metric(row), row.label_values[0]) for row in ROWS]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        (value,) = pb.get_input_tensor_by_name(request, "VALUE").as_numpy()
        for metric, label_value in self.metrics:
            metric.record(value, label_value)
            metric.record(1, "no such value")
        time.sleep(0.3)  # so that the other instance takes the next request
        return pb.InferenceResponse([pb.Tensor("PROCESS", np.array([os.getpid()]))])
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A server whose only Python model reports what it is told to: its options and its process."""
    directory = tmp_path_factory.mktemp("probe")
    repository = make_repository(directory / "models")
    add_model(repository, PROBE, PROBE_CONFIG)
    (repository / PROBE / "1" / "model.py").write_text(PROBE_MODEL, encoding="utf-8")
    options = ServerOptions(repository, log_file=directory / "log", **server_ports())
    with Server(options):
        yield options


def report_to_both(server, value):
    """Have a value reported by both instances; the processes that did."""

    def call():
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            tensor = tritonclient.grpc.InferInput("VALUE", [1], "FP64")
            tensor.set_data_from_numpy(np.array([value]))
            processes.append(int(client.infer(PROBE, [tensor]).as_numpy("PROCESS")[0]))

    processes = []
    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(set(processes)) == 2
    return processes


def test_values_that_cannot_be_right_leave_the_server_and_its_sums_as_they_are(probed):
    report_to_both(probed, 0.25)
    before = scrape(probed.metrics_port)
    for value in (-1.0, math.nan, math.inf, -math.inf):
        report_to_both(probed, value)
    time.sleep(1)  # a server that is called wrongly ends a moment later
    report_to_both(probed, 0.5)
    after = scrape(probed.metrics_port)
    changes = {name: after[name] - before[name] for name in after if name.startswith("sam_refine_")}
    assert all(map(math.isfinite, changes.values()))
    # two instances add up, and of a gauge the last value stays
    assert changes['sam_refine_regions_total{result="kept"}'] == 1.0
    assert changes['sam_refine_regions_total{result="failed"}'] == 0
    assert changes["sam_refine_changed_pixels_ratio_count"] == 2
    assert changes["sam_refine_changed_pixels_ratio_sum"] == 1.0
    assert changes['sam_refine_stage_duration_seconds_count{stage="downsample"}'] == 2
    assert after["sam_refine_embedding_cache_entries"] == 0.5
    log = probed.log_file.read_text(encoding="utf-8")
    assert "metric sam_refine_regions_total: a value must be finite and >= 0, got" in log
    assert "metric sam_refine_regions_total: result must be known, got 'no such value'" in log
