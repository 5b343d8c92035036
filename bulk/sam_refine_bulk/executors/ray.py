"""Tasks of Ray over shards: Ray distributes, the output folder knows what is done.

Needs the extra `bulk-ray`, and an output folder that all nodes see. Nothing is kept in Ray: a task
that is lost with its node is run again by Ray, or by the next run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from sam_refine_bulk.errors import DamagedShardError
from sam_refine_bulk.executors.local import OpenClient
from sam_refine_bulk.inputs.source import Shard
from sam_refine_bulk.worker import Event, Observe, Work, refine_shard


def refine_on_ray(
    shards: Sequence[Shard],
    output: Path,
    open_client: OpenClient,
    work: Work,
    workers: int,
    observe: Observe,
) -> None:
    """Refine shards, `workers` at a time, on the cluster that `ray.init` finds (RAY_ADDRESS).

    Events come when a shard is done. Raises `BulkError`, `ray.exceptions.RayError`.
    """
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    task = ray.remote(max_retries=-1, num_cpus=1)(_refine)
    waiting = list(reversed(shards))
    running: dict[ray.ObjectRef[Any], Shard] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            shard = waiting.pop()
            running[task.remote(shard, output, open_client, work)] = shard
        (done,), _ = ray.wait(list(running))
        shard = running.pop(done)
        try:
            is_done, events = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        for event in events:
            observe(event)
        if not is_done:
            waiting.insert(0, shard)  # another process has it


def _refine(
    shard: Shard, output: Path, open_client: OpenClient, work: Work
) -> tuple[bool, list[Event]]:
    events: list[Event] = []
    with open_client() as client:
        try:
            is_done = refine_shard(shard, output, client, work, observe=events.append)
        except DamagedShardError as error:
            events.append(Event("damaged", shard.name, message=str(error)))
            is_done = True
    return is_done, events
