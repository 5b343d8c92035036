"""One worker: one stream of images through a client, shard after shard, never waiting between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_bulk.errors import DamagedShardError
from sam_refine_bulk.inputs.samples import Job
from sam_refine_bulk.inputs.source import Shard
from sam_refine_bulk.outputs.disk import Disk, Step, no_step
from sam_refine_bulk.outputs.layout import Layout
from sam_refine_bulk.patience import ImageFailedError, Refiner, result_in_the_end
from sam_refine_bulk.results import Failed, Reason, Result, result_of
from sam_refine_bulk.shard import DONE, IMAGES_OF_A_PART, ShardWork, opened
from sam_refine_client import RefineResult
from sam_refine_client.many import Outcome

_OUTPUTS: Final = ("labels", "regions")
_POLL_S: Final = 0.5


@dataclass(frozen=True)
class Work:
    """How shards are refined; all after `palette` may differ from run to run."""

    options: RefineOptions = field(default_factory=RefineOptions)
    activation: str | None = None
    palette: str | None = None
    """The colours of coloured label maps, as the client's `refine` takes them."""
    concurrency: int = 4
    """Images under way at a time."""
    part: int = IMAGES_OF_A_PART
    """The most images that are computed again after this worker was killed."""
    timeout_s: float | None = None
    """Of a request."""
    wait_s: float = 600.0
    """How long no server may answer before the job ends."""
    retry: bool = False
    """Whether the images that failed are done again, and nothing else."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "part"):
            if not getattr(self, name) >= 1:
                raise InvalidRequestError(f"{name} must be >= 1, got {getattr(self, name)}")

    @property
    def images_of_a_part(self) -> int:
        """Images of a commit: beyond them some are under way, or wait for an earlier one."""
        return max(1, self.part - 2 * self.concurrency)

    def request(self) -> dict[str, Any]:
        """What each call has in common."""
        request = {"options": self.options, "outputs": _OUTPUTS, "timeout_s": self.timeout_s}
        given = {"activation": self.activation, "palette": self.palette}
        return request | {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Event:
    """Something that has happened; `kind` says what the others mean."""

    kind: str
    """opened, image, committed, damaged, waiting."""
    shard: str
    images: int = 0
    """opened: those of the shard."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """opened: images that are committed already, by DONE or the `Reason` for which they failed; a
    shard that is opened again, its worker having ended, has no others."""
    outcome: str = DONE
    """image: DONE, or the `Reason` for which it failed."""
    key: str = ""
    message: str = ""
    """image, damaged, waiting: in words; of an image that is done its warnings."""


Observe = Callable[[Event], object]


def refine_shard(
    shard: Shard,
    output: Path,
    client: Refiner,
    work: Work | None = None,
    *,
    step: Step = no_step,
    observe: Observe = lambda event: None,
) -> bool:
    """Refine one shard into the folder `output`; do nothing where that is done.

    May be killed at any time and called again, here or elsewhere: each image is in the output once.
    False where another process is at this shard. Raises `DamagedShardError`, `OutputError`,
    `NoServerError`.
    """
    left = _one_pass([shard], Layout(output), client, work or Work(), step, observe, raises=True)
    return not left


def refine_shards(
    shards: Sequence[Shard],
    output: Path,
    client: Refiner,
    work: Work | None = None,
    *,
    step: Step = no_step,
    observe: Observe = lambda event: None,
) -> None:
    """Refine shards, as many as other workers leave; returns when all are done, by whomever.

    Damaged ones are observed and the others go on. Raises `OutputError`, `NoServerError`.
    """
    layout, left = Layout(output), list(shards)
    while left := _one_pass(left, layout, client, work or Work(), step, observe, raises=False):
        time.sleep(_POLL_S)  # others are at these; if one is killed, its lock goes


def _one_pass(
    shards: Sequence[Shard],
    layout: Layout,
    client: Refiner,
    work: Work,
    step: Step,
    observe: Observe,
    *,
    raises: bool,
) -> list[Shard]:
    """The shards that another process has."""
    stream = _Stream(layout, client, work, Disk(step), observe, raises)
    stream.run(shards)
    return stream.left


class _Stream:
    """Images of many shards in one `refine_many`. All of it happens in the caller's thread."""

    def __init__(
        self,
        layout: Layout,
        client: Refiner,
        work: Work,
        disk: Disk,
        observe: Observe,
        raises: bool,
    ) -> None:
        self.left: list[Shard] = []
        self._layout = layout
        self._client = client
        self._work = work
        self._disk = disk
        self._observe = observe
        self._raises = raises
        self._open: dict[str, ExitStack] = {}
        self._sent: dict[int, tuple[ShardWork, int, Job]] = {}

    def run(self, shards: Sequence[Shard]) -> None:
        outcomes = self._client.refine_many(self._jobs(shards), concurrency=self._work.concurrency)
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    self._receive(outcome)
        finally:
            for stack in self._open.values():
                stack.close()

    def _receive(self, outcome: Outcome[RefineResult]) -> None:
        shard, number, job = self._sent.pop(outcome.index)
        key = shard.samples[number].key

        def waiting(text: str) -> None:
            self._observe(Event("waiting", shard.name, message=text))

        result: Result
        try:
            answer = result_in_the_end(self._client, job, outcome, self._work.wait_s, waiting)
            result = result_of(key, shard.name, answer)
        except ImageFailedError as error:
            result = Failed(key, error.reason, str(error))
        self._take(shard, number, result)

    def _jobs(self, shards: Sequence[Shard]) -> Iterator[Job]:
        request, sent = self._work.request(), 0
        for shard in shards:
            work = self._begin(shard)
            if work is None:
                continue
            for number in range(work.next, len(work.samples)):
                sample = work.samples[number]
                try:
                    job = {**sample.read(), **request}
                except Exception as error:  # whatever a file's parser raises: the image's own fault
                    self._take(work, number, Failed(sample.key, Reason.INPUT, _text(error)))
                    continue
                self._sent[sent] = work, number, job
                sent += 1
                yield job

    def _begin(self, shard: Shard) -> ShardWork | None:
        stack = ExitStack()
        try:
            work = stack.enter_context(
                opened(shard, self._layout, self._disk, part=self._work.images_of_a_part,
                       retry=self._work.retry)
            )  # fmt: skip
        except DamagedShardError as error:
            if self._raises:
                raise
            self._observe(Event("damaged", shard.name, message=str(error)))
            return None
        if work is None:
            if not self._is_done(shard):
                self.left.append(shard)
            return None
        self._open[work.name] = stack
        self._observe(Event("opened", work.name, work.images, work.counts))
        work.commit_if_whole()
        self._end_if_committed(work)
        return work

    def _is_done(self, shard: Shard) -> bool:
        return self._layout.place(shard.name).is_committed()

    def _take(self, work: ShardWork, number: int, result: Result) -> None:
        work.take(number, result)
        if isinstance(result, Failed):
            event = Event("image", work.name, outcome=result.reason.value, key=result.key,
                          message=result.message)  # fmt: skip
        else:
            event = Event("image", work.name, message=" ".join(result.warnings))
        self._observe(event)
        self._end_if_committed(work)

    def _end_if_committed(self, work: ShardWork) -> None:
        if work.is_committed:
            self._observe(Event("committed", work.name))
            self._open.pop(work.name).close()


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
