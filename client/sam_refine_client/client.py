"""The two clients: `RefineClient` blocks, `AsyncRefineClient` is awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AbstractContextManager
from functools import wraps
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakSet

import tritonclient.grpc
import tritonclient.grpc.aio

from sam_refine_client import calls
from sam_refine_client.embedding import Embedding
from sam_refine_client.errors import UnreachableError
from sam_refine_client.many import Job, Outcome, check_concurrency, stream, stream_async
from sam_refine_client.result import RefineResult
from sam_refine_client.steps.steps import Steps, Stop, run, run_async
from sam_refine_client.transport.call import Transport
from sam_refine_client.transport.connection import (
    ConnectionOptions,
    addresses,
    local_port,
    plain_address,
    proxy_variable,
    triton_arguments,
)
from sam_refine_client.transport.environment import (
    DEFAULT_URL,
    environment_options,
    environment_urls,
)
from sam_refine_client.transport.grpc import GrpcTransport

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="_Client")


class _Client:
    """What both clients have in common."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        connection: ConnectionOptions | None = None,
    ) -> None:
        """`url` is host:port of the server's gRPC endpoint, or several. Nothing is sent yet.

        Several may be a list, or one text with commas or spaces between them.

        Where there is none, it is that of the environment's `SAM_REFINE_URL`, else 127.0.0.1:8001;
        and `connection` is by default that of the environment, too.
        """
        if url is None:
            options = connection or environment_options()
            urls = addresses(environment_urls(), options)
        else:
            options = connection or ConnectionOptions()
            urls = addresses(url, options)
        self._made_by: tuple[Callable[..., Any], tuple[Any, ...]] = (_remade, (urls, options))
        self._transport: Transport = GrpcTransport(
            options,
            local_port=local_port(urls),
            proxy=proxy_variable(urls),
            address=plain_address(urls, options),
        )
        self._arguments = triton_arguments(urls, options)
        self._is_closed = False
        self._inherited: list[Any] = []
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        self._opened: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = Stop("the client was closed")
        self._lock = Lock()

    def _begin_in_fork(self) -> None:
        """Start with a new connection, locks and shared memory: the old ones are the parent's."""
        self._inherited.append(self._opened)  # without a reference it would be closed
        self._begin()
        self._transport.begin_in_fork()

    @classmethod
    def local(cls: type[C], repository: str | PathLike[str]) -> C:
        """A client that needs no server: the same work in this process, by ONNX Runtime.

        `repository` is what `sam-refine export` wrote. Needs the extra `local`. Raises
        `InvalidRequestError` if there are no networks in it.
        """
        from sam_refine_client.transport.local import LocalTransport

        client = cls(DEFAULT_URL)
        client._transport = LocalTransport(Path(repository))
        client._made_by = cls.local, (Path(repository).absolute(),)
        return client

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickled as what it was made of: it connects where it is unpickled."""
        self._require_open()
        make, arguments = self._made_by
        return (make, (type(self), *arguments)) if make is _remade else (make, arguments)

    def same_image(self) -> AbstractContextManager[None]:
        """A block in which each image is refined several times, one image after the other.

        In local mode the decoder is then not asked twice the same: what it said of the latest image
        is kept, a quarter of a megabyte for each mask. A server is called as ever.
        """
        return self._transport.same_image()

    def _require_open(self) -> None:
        if self._is_closed:
            raise UnreachableError("the client is closed", advice="make a new one")


def _remade(kind: type[C], urls: Sequence[str], options: ConnectionOptions) -> C:
    return kind(urls, connection=options)


def _begin_in_fork() -> None:
    for client in list(_clients):
        client._begin_in_fork()


_clients: Final[WeakSet[_Client]] = WeakSet()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_begin_in_fork)


def _blocking(
    method: Callable[Concatenate[Transport, P], Steps[R]],
) -> Callable[Concatenate[RefineClient, P], R]:
    @wraps(method)
    def call(self: RefineClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self._require_open()
        return run(method(self._transport, *args, **kwargs), self._connect, self._stop)

    return call


def _awaited(
    method: Callable[Concatenate[Transport, P], Steps[R]],
) -> Callable[Concatenate[AsyncRefineClient, P], Coroutine[Any, Any, R]]:
    @wraps(method)
    async def call(self: AsyncRefineClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self._require_open()
        return await run_async(method(self._transport, *args, **kwargs), self._connect, self._stop)

    return call


class RefineClient(_Client):
    """Calls a server; one connection, safe to use from several threads.

    with RefineClient("127.0.0.1:8001") as client:
        result = client.refine("photo.jpg", logits=scores)
    """

    refine = _blocking(calls.refine)
    embed = _blocking(calls.embed)
    draw_masks = _blocking(calls.draw_masks)
    info = _blocking(calls.info)
    health = _blocking(calls.health)

    def refine_many(
        self, jobs: Iterable[Job], *, concurrency: int = 4, in_order: bool = True
    ) -> Iterator[Outcome[RefineResult]]:
        """Refine many maps, `concurrency` at a time. A job has the arguments of a `refine` by name.

        Jobs are taken only when they are needed, and outcomes come in the order of the jobs, or
        with `in_order=False` as they complete: however many there are, only a few are in memory. A
        job that fails becomes an outcome with an error, and the others go on. If you stop early,
        calls under way are cancelled; if `jobs` raises, the outcomes of the jobs before come first.
        """
        check_concurrency(concurrency)
        return self._stream(calls.refine, jobs, concurrency, in_order)

    def embed_many(
        self, jobs: Iterable[Job], *, concurrency: int = 4, in_order: bool = True
    ) -> Iterator[Outcome[Embedding]]:
        """Embed many images, as `refine_many` refines: a job has the arguments of an `embed`."""
        check_concurrency(concurrency)
        return self._stream(calls.embed, jobs, concurrency, in_order)

    def _stream(
        self,
        method: Callable[..., Steps[R]],
        jobs: Iterable[Job],
        concurrency: int,
        in_order: bool,
    ) -> Iterator[Outcome[R]]:
        stop = Stop(f"{method.__name__}_many was left, or the client closed")

        def call(**job: Any) -> R:
            self._require_open()
            return run(method(self._transport, **job), self._connect, stop)

        with self._stop.ends(stop.set):
            yield from stream(call, jobs, concurrency, in_order=in_order, end=stop.set)

    def __enter__(self) -> RefineClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a closed client cannot be used again.

        Calls under way in other threads are cancelled.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._stop.set()
        try:
            run(self._transport.close(), self._connect, Stop("never"))
        finally:
            with self._lock:
                opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()

    def _connect(self) -> Any:
        with self._lock:
            if self._opened is None:
                self._require_open()
                self._opened = tritonclient.grpc.InferenceServerClient(**self._arguments)
            return self._opened


class AsyncRefineClient(_Client):
    """The same for asyncio; each one belongs to one event loop.

    async with AsyncRefineClient("127.0.0.1:8001") as client:
        result = await client.refine("photo.jpg", logits=scores)
    """

    refine = _awaited(calls.refine)
    embed = _awaited(calls.embed)
    draw_masks = _awaited(calls.draw_masks)
    info = _awaited(calls.info)
    health = _awaited(calls.health)

    def refine_many(
        self,
        jobs: Iterable[Job] | AsyncIterable[Job],
        *,
        concurrency: int = 4,
        in_order: bool = True,
    ) -> AsyncIterator[Outcome[RefineResult]]:
        """Like `RefineClient.refine_many`; `jobs` may also be an asynchronous iterable."""
        check_concurrency(concurrency)
        return stream_async(self.refine, jobs, concurrency, in_order=in_order)

    def embed_many(
        self,
        jobs: Iterable[Job] | AsyncIterable[Job],
        *,
        concurrency: int = 4,
        in_order: bool = True,
    ) -> AsyncIterator[Outcome[Embedding]]:
        """Like `RefineClient.embed_many`; `jobs` may also be an asynchronous iterable."""
        check_concurrency(concurrency)
        return stream_async(self.embed, jobs, concurrency, in_order=in_order)

    async def __aenter__(self) -> AsyncRefineClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a closed client cannot be used again.

        Calls under way in other tasks are cancelled.
        """
        if self._is_closed:
            return
        if self._opened is not None:
            self._connect()
        self._is_closed = True
        self._stop.set()
        try:
            await run_async(self._transport.close(), self._connect, Stop("never"))
        finally:
            opened, self._opened = self._opened, None
            if opened is not None:
                await opened.close()

    def _connect(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._opened is None:
            self._require_open()
            self._opened = tritonclient.grpc.aio.InferenceServerClient(**self._arguments)
            self._loop = loop
        if self._loop is not loop:
            raise UnreachableError(
                "the client was opened in another event loop", advice="make one in each loop"
            )
        return self._opened
