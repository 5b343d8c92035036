"""Many calls, some of them at a time: the results are a stream, and memory is bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from sam_refine.contract import InvalidRequestError
from sam_refine_client.errors import RefineError
from sam_refine_client.steps.waiting import first_done

R = TypeVar("R")

Job: TypeAlias = Mapping[str, Any]
"""The arguments of one `refine` or `embed`, by name."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What came of one job: a result or an error."""

    index: int
    """The number of the job, from 0, in the order of `jobs`."""
    result: R | None
    error: RefineError | InvalidRequestError | OSError | None


def check_concurrency(concurrency: int) -> None:
    """Raise `InvalidRequestError` unless it is an integer >= 1."""
    if type(concurrency) is not int or concurrency < 1:
        raise InvalidRequestError(f"concurrency must be an integer >= 1, got {concurrency!r}")


def stream(
    call: Callable[..., R],
    jobs: Iterable[Job],
    concurrency: int,
    *,
    in_order: bool,
    end: Callable[[], object],
) -> Iterator[Outcome[R]]:
    """`call` with each job, `concurrency` at a time.

    No job is taken from `jobs` while `2 * concurrency` jobs are running or have a result that waits
    for the caller (`concurrency` jobs if not `in_order`). If the caller stops early, jobs that have
    not begun are dropped, and `end` is called to end the others. What `jobs` raises is raised after
    the outcomes of the jobs before it.
    """
    pending: deque[Future[Outcome[R]]] = deque()
    raised: list[Exception] = []
    room = 2 * concurrency if in_order else concurrency
    with ThreadPoolExecutor(concurrency, thread_name_prefix="sam_refine_many") as pool:
        try:
            for index, job in enumerate(_until_raised(jobs, raised)):
                pending.append(pool.submit(copy_context().run, _outcome, call, index, job))
                while len(pending) >= room or (pending and pending[0].done()):
                    yield _next(pending, in_order=in_order)
            while pending:
                yield _next(pending, in_order=in_order)
            if raised:
                raise raised[0]
        finally:
            for future in pending:
                future.cancel()
            end()


def _until_raised(jobs: Iterable[Job], raised: list[Exception]) -> Iterator[Job]:
    """The jobs up to the first exception, which is appended to `raised`."""
    try:
        yield from jobs
    except Exception as error:
        raised.append(error)


def _next(pending: deque[Future[Outcome[R]]], *, in_order: bool) -> Outcome[R]:
    first = first_done([pending[0]] if in_order else pending)
    pending.remove(first)
    return first.result()


def _outcome(call: Callable[..., R], index: int, job: Job) -> Outcome[R]:
    try:
        return Outcome(index, call(**job), None)
    except (RefineError, InvalidRequestError, OSError) as error:
        return Outcome(index, None, error)


async def stream_async(
    call: Callable[..., Awaitable[R]],
    jobs: Iterable[Job] | AsyncIterable[Job],
    concurrency: int,
    *,
    in_order: bool,
) -> AsyncIterator[Outcome[R]]:
    """`stream` for asyncio; `jobs` may also be an asynchronous iterable."""
    pending: deque[asyncio.Task[Outcome[R]]] = deque()
    raised: list[Exception] = []
    places = asyncio.Semaphore(concurrency)
    room = 2 * concurrency if in_order else concurrency

    async def outcome(index: int, job: Job) -> Outcome[R]:
        async with places:
            try:
                return Outcome(index, await call(**job), None)
            except (RefineError, InvalidRequestError, OSError) as error:
                return Outcome(index, None, error)

    try:
        index = 0
        async for job in _until_raised_async(jobs, raised):
            pending.append(asyncio.create_task(outcome(index, job)))
            index += 1
            while len(pending) >= room or (pending and pending[0].done()):
                yield await _next_async(pending, in_order=in_order)
        while pending:
            yield await _next_async(pending, in_order=in_order)
        if raised:
            raise raised[0]
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _next_async(pending: deque[asyncio.Task[Outcome[R]]], *, in_order: bool) -> Outcome[R]:
    if in_order:
        return await pending.popleft()
    done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    first = next(task for task in pending if task in done)
    pending.remove(first)
    return first.result()


async def _until_raised_async(
    jobs: Iterable[Job] | AsyncIterable[Job], raised: list[Exception]
) -> AsyncIterator[Job]:
    if not isinstance(jobs, AsyncIterable):
        for job in _until_raised(jobs, raised):
            yield job
        return
    try:
        async for job in jobs:
            yield job
    except Exception as error:
        raised.append(error)
