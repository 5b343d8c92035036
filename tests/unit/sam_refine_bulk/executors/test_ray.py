"""Tasks of Ray: one whose process is killed is run again, and goes on where it was."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from sam_refine.contract import RefineOptions
from sam_refine_bulk import Source, state_of
from sam_refine_bulk.job import begin
from support.bulk.data_sets import computed, data_set, killing, on_ray, results

pytestmark = pytest.mark.slow  # it starts a cluster


def test_killed_task_is_run_again_and_each_image_is_once_in_the_output(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    tests = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", str(tests))  # Ray's processes find the client there
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # or it would write a token in the home
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "120")  # not 30: a machine may be busy
    source, output = data_set(tmp_path / "in", *[5] * 4), tmp_path / "out"
    (source / "a-00001.tar").write_bytes(b"")
    shards = begin(Source(str(source)), output, RefineOptions(), None, None, {}).shards
    log = tmp_path / "log"
    open_client = partial(killing, log, 12, tmp_path / "killed")
    # Ray forks, which aborts the child where another thread is in a call of gRPC: other tests'.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as own:
        events = own.submit(on_ray, shards, output, open_client).result()
    assert (tmp_path / "killed").exists()
    expected = [f"{number:04}" for number in range(20) if not 5 <= number < 10]
    assert results(output) == Counter(expected)
    assert len(computed(log)) <= 15 + 3
    assert list(state_of(output).damaged) == ["a-00001"]
    assert [event.shard for event in events if event.kind == "damaged"] == ["a-00001"]
