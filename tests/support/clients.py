"""Both clients of a server as ones that block, so that a test is written once; many at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sam_refine_client import AsyncRefineClient, RefineClient

T = TypeVar("T")

_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, daemon=True).start()


class Awaited:
    """`AsyncRefineClient`, its calls made in one event loop that runs in a thread of its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = AsyncRefineClient(*arguments, **options)

    def refine(self, *arguments: Any, **options: Any) -> Any:
        return _await(self._client.refine(*arguments, **options))

    def embed(self, *arguments: Any, **options: Any) -> Any:
        return _await(self._client.embed(*arguments, **options))

    def info(self, **options: Any) -> Any:
        return _await(self._client.info(**options))

    def health(self, **options: Any) -> Any:
        return _await(self._client.health(**options))

    def refine_many(self, jobs: Any, **options: Any) -> Iterator[Any]:
        outcomes: Any = self._client.refine_many(jobs, **options)

        async def next_outcome() -> Any:
            return await anext(outcomes, None)

        async def close() -> None:
            await outcomes.aclose()

        try:
            while (outcome := _await(next_outcome())) is not None:
                yield outcome
        finally:
            _await(close())

    def close(self) -> None:
        _await(self._client.close())

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _await(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop).result()


CLIENTS: dict[str, Callable[..., Any]] = {"blocking": RefineClient, "awaited": Awaited}


# --- Callers beside whatever happens to the server ---

CALLERS = 4
DEADLINE_S = 120
"""Far more than the second or two that healing takes, on a machine that may be busy."""


def beside_callers(
    call: Callable[[RefineClient, int], T],
    urls: str | Sequence[str],
    act: Callable[[], None],
    requests: int,
) -> list[list[T]]:
    """What each of the callers got for its number, `requests` times.

    `act` is called when all have got something.
    """
    begun = threading.Barrier(CALLERS + 1)

    def calls(caller: int) -> list[T]:
        with RefineClient(urls) as client:
            answers = [call(client, caller)]
            begun.wait(DEADLINE_S)
            return answers + [call(client, caller) for _ in range(requests - 1)]

    with ThreadPoolExecutor(CALLERS) as pool:
        answers = [pool.submit(calls, caller) for caller in range(CALLERS)]
        begun.wait(DEADLINE_S)
        act()
        return [answer.result() for answer in answers]
