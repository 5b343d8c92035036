"""Counts of a run, and the file that Prometheus reads."""

from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sam_refine_bulk import Event, State
from sam_refine_bulk.metrics import MetricsFile, Progress


def state(**counts):
    given = {"shards": 4, "committed": 2, "at_work": 0, "damaged": {}, "done": 19, "failed": 1,
             "regions": 0, "kept": 0, "warned": 0, "reasons": {"input": 1}}  # fmt: skip
    return State(**{**given, **counts})


def images(progress, shard, count, outcome="done"):
    for _ in range(count):
        progress.add(Event("image", shard, outcome=outcome))


def test_counts_are_those_of_earlier_runs_and_of_this_one():
    progress = Progress(4, state())
    progress.add(Event("opened", "c", 10, {"done": 3, "server": 1}))
    images(progress, "c", 5)
    images(progress, "c", 1, "input")
    assert (progress.done, progress.failed) == (27, 3)
    assert progress.reasons == {"input": 2, "server": 1}
    assert progress.images_of_all == 40
    progress.add(Event("committed", "c"))
    assert progress.committed == 3


def test_shard_that_is_opened_again_loses_what_a_killed_worker_had_not_committed():
    progress = Progress(1)
    progress.add(Event("opened", "a", 10))
    images(progress, "a", 7)
    progress.add(Event("opened", "a", 10, {"done": 4}))
    images(progress, "a", 6)
    assert progress.done == progress.done_now == 10
    assert progress.images_of_all == 10


def test_what_others_have_committed_is_not_of_this_run():
    progress = Progress(2)
    progress.add(Event("opened", "a", 10, {"done": 4}))
    images(progress, "a", 3)
    images(progress, "a", 1, "input")
    progress.add(Event("opened", "a", 10, {"done": 9}))  # as its killed worker was not alone
    assert (progress.done, progress.done_now) == (9, 3)


def test_nothing_is_foretold_before_the_first_image():
    progress = Progress(3)
    assert progress.images_of_all == 0
    assert progress.eta_s is None
    progress.add(Event("opened", "a", 10))
    assert progress.eta_s is None
    images(progress, "a", 2)
    assert progress.images_per_s > 0
    assert progress.eta_s == pytest.approx(28 / progress.images_per_s, rel=0.5)


def read(path):
    samples = {}
    for family in text_string_to_metric_families(path.read_text()):
        for each in family.samples:
            labels = tuple(value for name, value in sorted(each.labels.items()) if name != "rank")
            samples[(each.name.removeprefix("sam_refine_bulk_"), *labels)] = each.value
            assert each.labels["rank"] == "3"
    return samples


def test_file_has_the_counts_and_is_written_whole(tmp_path):
    progress, path = Progress(4, state()), tmp_path / "bulk.prom"
    metrics = MetricsFile(path, {"rank": "3"})
    metrics.write(progress, now=True)
    found = read(path)
    assert found["images", "done"] == 19
    assert found["images", "failed"] == found["failed_images", "input"] == 1
    assert (found["shards", "committed"], found["shards", "open"]) == (2, 2)
    assert math.isnan(found["eta_seconds",])
    progress.add(Event("damaged", "c"))
    metrics.write(progress)  # too soon
    assert read(path)["shards", "damaged"] == 0
    metrics.write(progress, now=True)
    assert read(path)["shards", "damaged"] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["bulk.prom"]
