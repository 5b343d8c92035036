"""Calls written once, for callers that block and for callers that await.

A call is a generator of steps: it yields what it wants done, and is sent what came of it. Nothing
in it knows how that is done. `RefineClient` does each step, `AsyncRefineClient` awaits each.
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

R = TypeVar("R")


@dataclass(frozen=True)
class Remote:
    """A method of Triton's client, the same in its blocking and its awaited form."""

    method: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """Something to compute in this process."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Pause:
    """Some time to wait."""

    seconds: float


Step: TypeAlias = Remote | Work | Pause
Steps: TypeAlias = Generator[Step, Any, R]


class Stop:
    """Ends calls from outside: those in flight are cancelled, and of others no step is begun."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self._is_set = False
        self._ends: dict[object, Callable[[], object]] = {}
        self._lock = Lock()

    def set(self) -> None:
        """End what there is; safe to call from any thread, and again."""
        with self._lock:
            self._is_set = True
            ends = list(self._ends.values())
        for end in ends:
            end()

    @contextmanager
    def ends(self, end: Callable[[], object]) -> Iterator[None]:
        """Inside the block, `end` is called when this is set; at once where it is already."""
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
        """Raise `InferenceServerException`, as of a cancelled call, where this is set."""
        if self._is_set:
            raise InferenceServerException(self.reason, "StatusCode.CANCELLED")


def run(steps: Steps[R], connect: Callable[[], Any], stop: Stop) -> R:
    """Do each step and wait for it. `connect` gives a `tritonclient.grpc` client.

    What a step raises, and that `stop` was set, is thrown into the generator, which may go on.
    """

    def do(step: Step) -> Any:
        stop.check()
        if isinstance(step, Work):
            return step.function()
        if isinstance(step, Pause):
            is_over = Event()
            with stop.ends(is_over.set):
                is_over.wait(step.seconds)
            return stop.check()
        if current_thread() is main_thread():
            return _call_aside(step, connect, stop)
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


def _call_aside(remote: Remote, connect: Callable[[], Any], stop: Stop) -> Any:
    """`_call` in a thread of its own, so that Ctrl-C ends it and does no harm.

    Python raises `KeyboardInterrupt` in the main thread wherever that is. In the midst of gRPC's
    own work it would leave a connection that cannot even be closed.
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
            return answer.result()
        except BaseException:
            interrupted.set()
            raise


def _call(remote: Remote, connect: Callable[[], Any], stop: Stop) -> Any:
    try:
        if remote.method == "infer":
            return _infer(connect(), remote.arguments, stop)
        return getattr(connect(), remote.method)(**remote.arguments)
    except ValueError:  # gRPC's where the connection was closed meanwhile
        stop.check()
        raise


def _infer(client: Any, arguments: dict[str, Any], stop: Stop) -> Any:
    """The client's `infer`, which `stop` cancels for the server, too."""
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
        # Of its own, so that the end of the connection is no cancellation of the caller's task.
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
