"""Calls written once, for callers that block and for callers that await.

A call is a generator of steps: it yields what it wants done, and is sent what came of it. Nothing
in it knows how that is done. `RefineClient` does each step, `AsyncRefineClient` awaits each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
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


def run(steps: Steps[R], connect: Callable[[], Any]) -> R:
    """Do each step and wait for it. `connect` gives a `tritonclient.grpc` client.

    What a remote step raises is thrown into the generator, which may go on.
    """

    def do(step: Step) -> Any:
        if isinstance(step, Remote):
            return getattr(connect(), step.method)(**step.arguments)
        if isinstance(step, Work):
            return step.function()
        return time.sleep(step.seconds)

    try:
        step = next(steps)
        while True:
            try:
                outcome = do(step)
            except InferenceServerException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()


async def run_async(steps: Steps[R], connect: Callable[[], Any]) -> R:
    """Await each step. `connect` gives a `tritonclient.grpc.aio` client."""

    def do(step: Step) -> Awaitable[Any]:
        if isinstance(step, Remote):
            called: Awaitable[Any] = getattr(connect(), step.method)(**step.arguments)
            return called
        if isinstance(step, Work):
            return asyncio.to_thread(step.function)
        return asyncio.sleep(step.seconds)

    try:
        step = next(steps)
        while True:
            try:
                outcome = await do(step)
            except InferenceServerException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()
