"""Worker processes: one that is killed is replaced, one that cannot go on ends all."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from sam_refine.contract import RefineOptions
from sam_refine_bulk import NoServerError, OutputError, Source, Work, state_of
from sam_refine_bulk.executors.local import refine_in_processes
from sam_refine_bulk.job import begin
from sam_refine_bulk.metrics import Progress
from support.bulk.data_sets import computed, data_set, forbidden, killing, results

pytestmark = pytest.mark.slow  # processes that import the client
WORK = Work(part=6, concurrency=1)


def run(tmp_path, counts, open_client, observe, workers=2):
    source, output = data_set(tmp_path / "in", *counts), tmp_path / "out"
    shards = begin(Source(str(source)), output, RefineOptions(), None, None, {}).shards
    refine_in_processes(shards, output, open_client, WORK, workers, observe)
    return output


def test_killed_worker_is_replaced_and_each_image_is_once_in_the_output(tmp_path):
    log, progress, events = tmp_path / "log", Progress(3), []

    def observe(event):
        events.append(event)
        progress.add(event)

    open_client = partial(killing, log, 7, tmp_path / "killed")
    output = run(tmp_path, (5, 5, 5), open_client, observe)
    assert results(output) == Counter(f"{number:04}" for number in range(15))
    assert len(computed(log)) <= 15 + WORK.part
    (told,) = (event.message for event in events if event.kind == "waiting")
    assert told == "a worker ended by SIGKILL: here is another"
    assert progress.done == state_of(output).done == 15


def test_image_that_ends_every_worker_ends_the_job(tmp_path):
    open_client = partial(killing, tmp_path / "log", 2, None)
    with pytest.raises(OutputError, match=r"5 workers ended in a row, the last by SIGKILL"):
        run(tmp_path, (3,), open_client, lambda event: None)


def test_error_of_a_worker_ends_them_all(tmp_path):
    with pytest.raises(NoServerError):
        run(tmp_path, (3, 3), forbidden, lambda event: None)
