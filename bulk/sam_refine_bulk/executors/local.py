"""Worker processes of this machine. One that is killed is replaced; its shard goes on elsewhere."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from sam_refine_bulk.errors import BulkError, OutputError
from sam_refine_bulk.inputs.source import Shard
from sam_refine_bulk.patience import Refiner
from sam_refine_bulk.worker import Event, Observe, Work, refine_shards

OpenClient = Callable[[], AbstractContextManager[Refiner]]
"""Makes a worker's client, in its own process."""

_MOST_DEATHS: Final = 5
"""In a row, without a commit between: then what is being done ends every worker that does it."""


@dataclass
class _Worker:
    process: BaseProcess
    events: Connection
    is_done: bool = False


def refine_in_processes(
    shards: Sequence[Shard],
    output: Path,
    open_client: OpenClient,
    work: Work,
    workers: int,
    observe: Observe,
) -> None:
    """Refine shards with so many processes; 1 is this process. Raises `BulkError`.

    The first error of a worker ends them all: what was committed stays.
    """
    if workers == 1:
        with open_client() as client:
            refine_shards(shards, output, client, work, observe=observe)
        return
    pool = _Pool(shards, output, open_client, work, observe)
    try:
        for number in range(workers):
            pool.start(number)
        pool.run()
    finally:
        pool.end()


class _Pool:
    def __init__(self, *arguments: Any) -> None:
        *self._arguments, self._observe = arguments
        self._context = multiprocessing.get_context("spawn")  # gRPC and ONNX Runtime have threads
        self._workers: dict[int, _Worker] = {}
        self._deaths = 0

    def start(self, number: int) -> None:
        """A pipe of its own for each: a killed writer of a shared queue would block the others."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_work, args=(theirs, number, *self._arguments), name=f"bulk-{number}"
        )
        process.start()
        theirs.close()
        self._workers[number] = _Worker(process, ours)

    def run(self) -> None:
        while self._workers:
            by_pipe = {worker.events: number for number, worker in self._workers.items()}
            for pipe in wait(list(by_pipe)):
                self._hear(by_pipe[pipe])  # type: ignore[index]

    def _hear(self, number: int) -> None:
        worker = self._workers[number]
        try:
            event = worker.events.recv()
        except (EOFError, OSError):
            self._gone(number, worker)
            return
        if isinstance(event, Exception):
            raise event
        if event is None:
            worker.is_done = True
        else:
            if event.kind == "committed":
                self._deaths = 0
            self._observe(event)

    def _gone(self, number: int, worker: _Worker) -> None:
        worker.process.join()
        worker.events.close()
        del self._workers[number]
        if worker.is_done:
            return
        self._deaths += 1
        code = worker.process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if self._deaths >= _MOST_DEATHS:
            raise OutputError(
                f"{self._deaths} workers ended in a row, the last {how}, and no shard was "
                "committed between: is there enough memory? Fewer --workers need less"
            )
        self._observe(Event("waiting", "", message=f"a worker ended {how}: here is another"))
        self.start(number)

    def end(self) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            worker.process.join()
            worker.events.close()


def _work(
    events: Connection,
    number: int,
    shards: Sequence[Shard],
    output: Path,
    open_client: OpenClient,
    work: Work,
) -> None:
    """A worker's process. Each begins elsewhere in the list, so that they seldom meet."""
    start = number * 7919 % max(len(shards), 1)
    try:
        with open_client() as client:
            turned = [*shards[start:], *shards[:start]]
            refine_shards(turned, output, client, work, observe=events.send)
        events.send(None)
    except BulkError as error:
        events.send(error)
    except (BrokenPipeError, KeyboardInterrupt):  # whoever started it is gone, or wants it to end
        pass
