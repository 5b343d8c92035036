"""Tasks of Ray: one whose process is killed is run again, and goes on where it was."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from sam_refine.contract import RefineOptions
from sam_refine_bulk import Source, Work, state_of
from sam_refine_bulk.job import begin
from support.bulk.data_sets import computed, data_set, killing, results

pytestmark = pytest.mark.slow  # it starts a cluster


def test_killed_task_is_run_again_and_each_image_is_once_in_the_output(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from sam_refine_bulk.executors.ray import refine_on_ray

    tests = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", str(tests))  # Ray's processes find the client there
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # or it would write a token in the home
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "250")  # not 30: a machine may be busy
    source, output = data_set(tmp_path / "in", *[5] * 4), tmp_path / "out"
    (source / "a-00001.tar").write_bytes(b"")
    shards = begin(Source(str(source)), output, RefineOptions(), None, None, {}).shards
    log, events = tmp_path / "log", []
    open_client = partial(killing, log, 12, tmp_path / "killed")
    try:
        refine_on_ray(shards, output, open_client, Work(part=3, concurrency=1), 2, events.append)
    finally:
        ray.shutdown()
    assert (tmp_path / "killed").exists()
    expected = [f"{number:04}" for number in range(20) if not 5 <= number < 10]
    assert results(output) == Counter(expected)
    assert len(computed(log)) <= 15 + 3
    assert list(state_of(output).damaged) == ["a-00001"]
    assert [event.shard for event in events if event.kind == "damaged"] == ["a-00001"]
