"""Calls written once, for callers that block and for callers that await.

A call is a generator of steps: it yields what it wants done, and is sent what came of it. It does
not know how that is done: `RefineClient` does each step (`run`), `AsyncRefineClient` awaits it
(`run_async`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Lock, Thread, current_thread, main_thread
from typing import Any, TypeAlias, TypeVar

from tritonclient.utils import InferenceServerException

from sam_refine_client.steps.waiting import first_done, wait_for

R = TypeVar("R")


@dataclass(frozen=True)
class Remote:
    """A call of a method that Triton's blocking client and its asyncio client both have."""

    method: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """A function to call in this process, outside the event loop."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Pause:
    """A wait."""

    seconds: float


Step: TypeAlias = Remote | Work | Pause
Steps: TypeAlias = Generator[Step, Any, R]


class Stop:
    """Ends calls from outside: a step under way is cancelled, and no further one is begun."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self._is_set = False
        self._ends: dict[object, Callable[[], object]] = {}
        self._lock = Lock()

    def set(self) -> None:
        """End them; may be called from any thread, and more than once."""
        with self._lock:
            self._is_set = True
            ends = list(self._ends.values())
        for end in ends:
            end()

    @contextmanager
    def ends(self, end: Callable[[], object]) -> Iterator[None]:
        """Inside the block, `end` is called when this is set; at once if it is set already."""
        key = object()
        with self._lock:
            self._ends[key] = end
            is_set = self._is_set
        if is_set:
            end()
        try:
            yield
        finally:
            with self._lock:
                del self._ends[key]

    def check(self) -> None:
        """If this is set, raise the `InferenceServerException` of a cancelled call."""
        if self._is_set:
            raise InferenceServerException(self.reason, "StatusCode.CANCELLED")


def run(steps: Steps[R], connect: Callable[[], Any], stop: Stop) -> R:
    """Do each step and wait for it. `connect` gives a `tritonclient.grpc` client.

    What a step raises is thrown into the generator, which may go on; so is the exception of a
    `stop` that was set.
    """

    def do(step: Step) -> Any:
        stop.check()
        if isinstance(step, Work):
            return step.function()
        if isinstance(step, Pause):
            is_over = Event()
            with stop.ends(is_over.set):
                wait_for(is_over, step.seconds)
            return stop.check()
        if current_thread() is main_thread():
            return _call_in_thread(step, connect, stop)
        return _call(step, connect, stop)

    try:
        step = next(steps)
        while True:
            try:
                outcome = do(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()


def _call_in_thread(remote: Remote, connect: Callable[[], Any], stop: Stop) -> Any:
    """`_call` in a thread of its own, so that Ctrl-C ends it without harm.

    Python raises `KeyboardInterrupt` in the main thread, wherever that thread is. In the middle of
    gRPC's own work it would leave a connection that cannot even be closed.
    """
    interrupted = Stop(stop.reason)
    answer: Future[Any] = Future()

    def call() -> None:
        try:
            answer.set_result(_call(remote, connect, interrupted))
        except BaseException as error:
            answer.set_exception(error)

    with stop.ends(interrupted.set):
        try:
            Thread(target=call, name=f"sam_refine {remote.method}").start()
            return first_done([answer]).result()
        except BaseException:
            interrupted.set()
            raise


def _call(remote: Remote, connect: Callable[[], Any], stop: Stop) -> Any:
    try:
        if remote.method == "infer":
            return _infer(connect(), remote.arguments, stop)
        return getattr(connect(), remote.method)(**remote.arguments)
    except ValueError:  # gRPC raises it if the connection was closed meanwhile
        stop.check()
        raise


def _infer(client: Any, arguments: dict[str, Any], stop: Stop) -> Any:
    """The client's `infer`; `stop` cancels it at the server too."""
    answers: SimpleQueue[tuple[Any, InferenceServerException | None]] = SimpleQueue()
    in_flight = client.async_infer(
        callback=lambda result, error: answers.put((result, error)), **arguments
    )
    with stop.ends(in_flight.cancel):
        result, error = answers.get()
    if error is not None:
        stop.check()
        raise error
    return result


async def run_async(steps: Steps[R], connect: Callable[[], Any], stop: Stop) -> R:
    """Await each step. `connect` gives a `tritonclient.grpc.aio` client; `stop` as in `run`."""

    def begin(step: Step) -> Awaitable[Any]:
        if isinstance(step, Remote):
            called: Awaitable[Any] = getattr(connect(), step.method)(**step.arguments)
            return called
        if isinstance(step, Work):
            return asyncio.to_thread(step.function)
        return asyncio.sleep(step.seconds)

    async def do(step: Step) -> Any:
        stop.check()
        # A task of its own, so that a closed connection does not cancel the caller's task.
        task = asyncio.ensure_future(begin(step))
        with stop.ends(task.cancel):
            try:
                await asyncio.wait({task})
            except BaseException:
                task.cancel()
                task.add_done_callback(lambda task: task.cancelled() or task.exception())
                raise
        if task.cancelled():
            stop.check()
            raise InferenceServerException("the call was cancelled", "StatusCode.CANCELLED")
        return task.result()

    try:
        step = next(steps)
        while True:
            try:
                outcome = await do(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()
