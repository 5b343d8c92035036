"""A bulk run against the best rate of the same server.

In turns, so that a slow minute of the machine meets both: `refine_many` of images in memory, whose
results are dropped, and `refine_shards` of a tar on disk. At the end the same with a client that
answers at once: what reading, packing and committing alone allow.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sam_refine_benchmarks.bulk.data import job_of, write_shard
from sam_refine_bulk import Source, Work, refine_shards
from sam_refine_client import RefineClient, RefineResult
from sam_refine_client.many import stream


def rates(
    url: str, folder: Path, images: int, turns: int, concurrency: int, say: Callable[[str], None]
) -> float:
    """Say the rates of both sides. Returns the median of bulk's divided by that of `refine_many`.

    `images` of each turn, of which the first is not counted: the first requests of a server are
    slower. Writes to `folder`, which must be empty.
    """
    direct: list[float] = []
    bulk: list[float] = []
    work = Work(concurrency=concurrency)
    with RefineClient(url) as client:
        for turn in range(turns + 1):
            jobs = [job_of(2 * turn * images + number) for number in range(images)]
            source, out = folder / f"in{turn}", folder / f"out{turn}"
            write_shard(source / "shard.tar", (2 * turn + 1) * images, images)
            sides = [
                (direct, partial(_drain, client, jobs, concurrency)),
                (bulk, partial(refine_shards, Source(str(source)).shards(), out, client, work)),
            ]
            for rates_of_side, run in sides[:: 1 if turn % 2 else -1]:
                rates_of_side.append(images / _timed(run))
            say(f"turn {turn}: direct {direct[-1]:.3f}/s, bulk {bulk[-1]:.3f}/s")
        source, out = folder / "in", folder / "out"
        write_shard(source / "shard.tar", 0, 20 * images)
        instant = _Instant(client.refine(**job_of(0)))
        shards = Source(str(source)).shards()
        files = 20 * images / _timed(partial(refine_shards, shards, out, instant, work))
    ratio = statistics.median(b / d for b, d in zip(bulk[1:], direct[1:], strict=True))
    say(
        f"direct {statistics.median(direct[1:]):.3f}/s, bulk {statistics.median(bulk[1:]):.3f}/s, "
        f"bulk / direct {ratio:.3f} (median of {turns} turns of {images} images)"
    )
    say(f"one worker, with answers that take no time: {files:.0f}/s")
    return ratio


class _Instant:
    """A client that has the answer to all: labels of the demo's photo."""

    def __init__(self, answer: RefineResult) -> None:
        self._answer = answer

    def refine(self, **job: Any) -> RefineResult:
        return self._answer

    def refine_many(self, jobs: Any, *, concurrency: int = 4) -> Any:
        return stream(self.refine, jobs, concurrency, in_order=True, end=lambda: None)


def _timed(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def _drain(client: RefineClient, jobs: list[dict[str, Any]], concurrency: int) -> None:
    for outcome in client.refine_many(jobs, concurrency=concurrency):
        assert outcome.error is None, outcome.error
