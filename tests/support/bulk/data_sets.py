"""Data sets of tiny images, and what refines them at once: the thing under test is the files."""

from __future__ import annotations

import io
import multiprocessing
import os
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam_refine.contract import RefineOptions
from sam_refine_bulk import Event, Source, Work, refine_shards
from sam_refine_bulk.executors.local import OpenClient
from sam_refine_bulk.inputs.source import Shard
from sam_refine_bulk.job import begin
from sam_refine_bulk.outputs.layout import PRIVATE
from sam_refine_client import ForbiddenError, InvalidRequestError, RefineError, RefineResult
from sam_refine_client.many import stream

SIZE_HW = 4, 6


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def image(number: int, format_: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*SIZE_HW, 3), number % 256, np.uint8)).save(file, format=format_)
    return file.getvalue()


def scores(number: int) -> Any:
    """(2, H, W) whose refined map, by the fake, is the bits of the number: no two are equal."""
    bits = np.array([number >> bit & 1 for bit in range(24)], np.float32).reshape(SIZE_HW)
    return np.stack([1 - bits, bits])


def sample(number: int, key: str | None = None) -> dict[str, bytes]:
    """The members of one image."""
    key = f"{number:04}" if key is None else key
    return {f"{key}.png": image(number), f"{key}.logits.npy": npy(scores(number))}


def write_tar(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, "w") as tar:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def data_set(path: Path, *counts: int) -> Path:
    """Tars a-00000, ... of so many images each; no key is in two of them."""
    number = 0
    for index, count in enumerate(counts):
        members: dict[str, bytes] = {}
        for _ in range(count):
            members |= sample(number)
            number += 1
        write_tar(path / f"a-{index:05}.tar", members)
    return path


class FakeClient:
    """Refines by argmax; `refused` images have the server's errors, in turn, then an answer."""

    def __init__(self, log: Path | None = None, step: Callable[[str], object] | None = None):
        self._log = log
        self._step = step
        self._lock = threading.Lock()
        self.errors: dict[int, list[Exception]] = {}
        self.calls = 0

    def refine(self, image: Any, logits: Any, **request: Any) -> RefineResult:
        labels = logits.argmax(axis=0).astype(np.int32)
        if labels.shape != SIZE_HW:
            raise InvalidRequestError("the map has another size")
        number = int((labels.reshape(-1) << np.arange(24)).sum())
        with self._lock:
            self.calls += 1
            errors = self.errors.get(number)
            if errors:
                raise errors.pop(0)
            if self._log is not None:
                with self._log.open("ab", buffering=0) as file:
                    os.write(file.fileno(), f"{number}\n".encode())
            if self._step is not None:
                self._step("image")
        return RefineResult(labels, None, None, (), {}, "request")

    def refine_many(self, jobs: Any, *, concurrency: int = 4) -> Iterator[Any]:
        return stream(self.refine, jobs, concurrency, in_order=True, end=lambda: None)

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def computed(log: Path) -> list[int]:
    """The images that were refined, as often as they were."""
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def results(output: Path) -> Counter[str]:
    """How often each key is in what a reader of the folder sees; each map must be that of its key.

    A key of digits is the number of its image.
    """
    found: Counter[str] = Counter()
    for path in sorted(output.rglob("*.tar")):
        if PRIVATE in path.relative_to(output).parts:
            continue
        with tarfile.open(path) as tar:
            names = tar.getnames()
            for name in names:
                key, _, ending = name.partition(".labels.")
                if ending != "png":
                    continue
                assert f"{key}.json" in names
                found[key] += 1
                labels = np.asarray(Image.open(tar.extractfile(name)))
                if key.isdigit():
                    assert np.array_equal(labels, scores(int(key))[1])
    return found


def forked(work: Callable[[], object]) -> int:
    """Do it in a child process; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_run(source: Path, output: Path, kill_at: int, log: Path, work: Work) -> int | None:
    """One run of a worker in a process of its own, killed at the so manieth step; its exit code.

    Forked from a small process: of one that has imported all that tests do, only the copy of its
    page tables takes longer than the run.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "sam_refine_bulk.job"])
    child = context.Process(target=_run_until, args=(source, output, kill_at, log, work))
    child.start()
    child.join()
    return child.exitcode


def _run_until(source: Path, output: Path, kill_at: int, log: Path, work: Work) -> None:
    step = killing_at(kill_at)
    begun = begin(Source(str(source)), output, RefineOptions(), None, None, {"model_card": "x"})
    refine_shards(begun.shards, output, FakeClient(log, step), work, step=step)


def on_ray(shards: Sequence[Shard], output: Path, open_client: OpenClient) -> list[Event]:
    """Refine shards as tasks of Ray, in a cluster of this process; what came of them."""
    from sam_refine_bulk.executors.ray import refine_on_ray

    events: list[Event] = []
    refine_on_ray(shards, output, open_client, Work(part=3, concurrency=1), 2, events.append)
    return events


def killing_at(number: int) -> Callable[[str], None]:
    """A hook that ends the process, nothing tidied up, at the so manieth call."""
    calls = [0]

    def step(name: str) -> None:
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), 9)

    return step


def transient(kind: type[RefineError], times: int, text: str = "away") -> list[Exception]:
    return [kind(text) for _ in range(times)]


# --- Clients of processes of their own, which find them by the name of this module ---


@contextmanager
def killing(log: Path, number: int, once: Path | None) -> Iterator[FakeClient]:
    """It ends its process at an image: once, which the file `once` tells, or each time."""

    def kill(name: str) -> None:
        if computed(log)[-1] == number and (once is None or not once.exists()):
            if once is not None:
                once.touch()
            os.kill(os.getpid(), 9)

    yield FakeClient(log, kill)


@contextmanager
def forbidden() -> Iterator[FakeClient]:
    client = FakeClient()
    client.errors = {number: transient(ForbiddenError, 9) for number in range(99)}
    yield client
