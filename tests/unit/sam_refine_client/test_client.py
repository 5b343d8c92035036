"""Calls whose caller goes away: the server learns it, and nothing is left behind."""

from __future__ import annotations

import asyncio
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from operator import methodcaller

import grpc
import numpy as np
import pytest

from sam_refine_client import (
    AsyncRefineClient,
    CancelledError,
    ConnectionOptions,
    RefineClient,
    Retries,
    UnreachableError,
)
from support.fake_triton import PATIENCE_S, FakeTriton, answer_with, hang, right, status

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
STUBBORN = ConnectionOptions(
    retries=Retries(attempts=1000, first_wait_s=10_000, longest_wait_s=10_000)
)
"""Waits for hours between attempts: a test that ends has not waited."""


def hanging(count=100):
    return FakeTriton(*[hang] * count)


@pytest.fixture
def interrupt():
    """interrupt(condition) presses Ctrl-C once the condition returns.

    The signal goes to another thread: the main thread does not wake, as it does not where a signal
    comes just before it begins to wait.
    """
    threads = []

    def begin(condition):
        def press():
            condition()
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        threads.append(threading.Thread(target=press))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join()


# --- Cancelling ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["small", "large"])
def test_cancelled_task_ends_the_call_at_the_server_and_leaves_nothing(request, size):
    call = request.getfixturevalue(size)

    async def cancel(server):
        async with AsyncRefineClient(server.address) as client:
            task = asyncio.create_task(client.refine(**call))
            seen = await asyncio.to_thread(server.wait_for)
            assert len(server.regions) == (size == "large")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(seen.ended.wait, PATIENCE_S)
            assert (await client.refine(**call)).labels is not None

    with FakeTriton(hang) as server:
        asyncio.run(cancel(server))
        assert server.regions == {}


def test_task_that_times_out_on_its_own_ends_the_call_at_the_server(small):
    async def time_out(server):
        async with AsyncRefineClient(server.address) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.refine(**small), 0.2)
            assert await asyncio.to_thread(server.wait_for().ended.wait, PATIENCE_S)

    with FakeTriton(hang) as server:
        asyncio.run(time_out(server))


@pytest.mark.parametrize("method", ["SystemSharedMemoryRegister", "ServerLive"])
def test_task_cancelled_in_what_goes_with_a_call_leaves_nothing(large, method):
    async def cancel(server):
        async with AsyncRefineClient(server.address) as client:
            task = asyncio.create_task(client.refine(**large))
            await asyncio.to_thread(server.wait_for, 1, method)
            while not server.regions:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server.hangs.clear()

    with FakeTriton(status(UNAVAILABLE)) as server:
        server.hangs.add(method)
        asyncio.run(cancel(server))
        assert server.regions == {}


def test_task_cancelled_as_it_lets_go_of_regions_leaves_none(large):
    async def cancel(server):
        async with AsyncRefineClient(server.address) as client:
            calls = [client.refine(**large, timeout_s=0.3) for _ in range(3)]
            await asyncio.gather(*calls, return_exceptions=True)
            assert len(server.regions) == 3
            server.hangs.add("SystemSharedMemoryUnregister")
            task = asyncio.create_task(client.refine(**large))
            await asyncio.to_thread(server.wait_for, 1, "SystemSharedMemoryUnregister")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server.hangs.clear()

    with FakeTriton(*[hang] * 3) as server:
        asyncio.run(cancel(server))
        assert server.regions == {}


@pytest.mark.parametrize("size", ["small", "large"])
def test_interrupted_call_ends_at_the_server_and_the_client_goes_on(request, interrupt, size):
    call = request.getfixturevalue(size)
    with FakeTriton(hang) as server:
        with RefineClient(server.address) as client:
            interrupt(server.wait_for)
            with pytest.raises(KeyboardInterrupt):
                client.refine(**call)
            assert server.wait_for().ended.wait(PATIENCE_S)
            assert client.refine(**call).labels is not None
        assert server.regions == {}


def most_likely_waits(server):
    """Come back when the client waits to try again; where it does not yet, a test holds as well."""
    server.wait_for(1, "ServerLive").ended.wait(PATIENCE_S)
    time.sleep(0.05)


def test_interrupted_wait_between_attempts_ends_at_once(interrupt, small):
    with FakeTriton() as server:
        server.statuses["ModelInfer"] = UNAVAILABLE
        with RefineClient(server.address, connection=STUBBORN) as client:
            interrupt(lambda: most_likely_waits(server))
            with pytest.raises(KeyboardInterrupt):
                client.refine(**small)


def test_interrupted_stream_ends_its_calls_at_the_server(interrupt, large):
    with hanging() as server:
        with RefineClient(server.address) as client:
            interrupt(lambda: server.wait_for(3))
            with pytest.raises(KeyboardInterrupt):
                list(client.refine_many([large] * 10, concurrency=3))
            server.answers.clear()
            assert client.refine(**large).labels is not None
        assert all(seen.ended.wait(PATIENCE_S) for seen in server.calls())
        assert len(server.calls()) == 4
        assert server.regions == {}


def test_stream_left_early_ends_its_calls_at_the_server(client_of, small):
    def answer(server, request, context):
        if request.parameters["image_id"].string_param != "0":
            return hang(server, request, context)
        server.wait_for(3)
        return right(server, request, context)

    jobs = ({**small, "image_id": str(number)} for number in range(100))
    with FakeTriton(*[answer] * 100) as server, client_of(server.address) as client:
        outcomes = client.refine_many(jobs, concurrency=3)
        assert next(outcomes).index == 0
        server.wait_for(4)
        outcomes.close()
        assert all(seen.ended.wait(PATIENCE_S) for seen in server.calls())
        assert len(server.calls()) == 4
        server.answers.clear()
        assert client.refine(**small).labels is not None


# --- Closing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["small", "large"])
def test_close_cancels_calls_under_way(client_of, request, size):
    call = request.getfixturevalue(size)
    with hanging() as server, ThreadPoolExecutor(3) as pool:
        client = client_of(server.address)
        under_way = [pool.submit(client.refine, **call) for _ in range(3)]
        server.wait_for(3)
        client.close()
        for future in under_way:
            with pytest.raises(CancelledError, match=r"^the client was closed \(model sam_refine"):
                future.result(PATIENCE_S)
        assert all(seen.ended.wait(PATIENCE_S) for seen in server.calls())
        assert server.regions == {}


def test_close_ends_the_wait_between_attempts(client_of, small):
    with FakeTriton() as server, ThreadPoolExecutor(1) as pool:
        server.statuses["ModelInfer"] = UNAVAILABLE
        client = client_of(server.address, connection=STUBBORN)
        under_way = pool.submit(client.refine, **small)
        most_likely_waits(server)
        client.close()
        with pytest.raises(CancelledError, match=r"^the client was closed"):
            under_way.result(PATIENCE_S)


def test_close_ends_a_stream(client_of, small):
    with hanging() as server, ThreadPoolExecutor(1) as pool:
        client = client_of(server.address)
        under_way = pool.submit(list, client.refine_many([small] * 8, concurrency=2))
        server.wait_for(2)
        client.close()
        outcomes = under_way.result(PATIENCE_S)
        assert [outcome.index for outcome in outcomes] == list(range(8))
        errors = {type(outcome.error): str(outcome.error) for outcome in outcomes}
        assert errors.keys() == {CancelledError, UnreachableError}
        assert re.search("the client (was )?closed", errors[CancelledError])
        assert len(server.calls()) == 2


def test_close_of_a_server_that_hangs_does_not_wait_for_it(client_of, large):
    """Which would take five seconds for each of its regions, twenty times."""
    with FakeTriton() as server:
        client = client_of(server.address)
        client.refine(**large)
        server.hangs.add("SystemSharedMemoryUnregister")
        client.close()
        asked = server.calls("SystemSharedMemoryUnregister")
        assert asked
        # what the client would have waited for at most: two seconds, which gRPC rounds up
        assert sum(seen.time_remaining_s for seen in asked) < 3


def test_close_again_and_close_unused_do_nothing(client_of):
    with FakeTriton() as server:
        client = client_of(server.address)
        client.close()
        client.close()
        assert server.seen == []


def test_client_that_is_closed_says_so(client_of, small):
    with FakeTriton() as server:
        client = client_of(server.address)
        client.refine(**small)
        client.close()
        message = "^the client is closed; make a new one$"
        with pytest.raises(UnreachableError, match=message):
            client.refine(**small)
        with pytest.raises(UnreachableError, match=message):
            client.embed(small["image"])
        (outcome,) = client.refine_many([small])
        assert isinstance(outcome.error, UnreachableError)
        assert len(server.calls()) == 1


# --- Threads, loops, processes ---------------------------------------------------------------


def named(server, request, context):
    """Labels are the number in the request's `image_id`."""
    number = int(request.parameters["image_id"].string_param)
    return answer_with(server, request, lambda name, array: array * array.dtype.type(number))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "large"])
def test_many_threads_each_have_their_own_answer(client_of, request, size):
    call = request.getfixturevalue(size)
    with FakeTriton(*[named] * 200) as server, ThreadPoolExecutor(16) as pool:
        with client_of(server.address) as client:

            def refine(number):
                result = client.refine(**call, image_id=str(number), outputs=("labels", "logits"))
                return (result.labels == number).all() and (result.logits == number).all()

            assert all(pool.map(refine, range(200)))
        assert server.regions == {}


def test_awaited_client_in_another_loop_says_so(small):
    with FakeTriton() as server:
        client = AsyncRefineClient(server.address)

        async def refine_and_close():
            await client.refine(**small)
            await client.close()

        async def refine():
            await client.refine(**small)

        asyncio.run(refine())
        message = "^the client was opened in another event loop; make one in each loop$"
        with pytest.raises(UnreachableError, match=message):
            asyncio.run(refine_and_close())
        with pytest.raises(UnreachableError, match=message):
            asyncio.run(client.close())


FORK = """
import os, sys
import numpy as np
from sam_refine_client import RefineClient

image, scores = np.zeros((700, 600, 3), np.uint8), np.full((3, 6, 9), 0.1, np.float32)

def refine(client, number):
    result = client.refine(image, logits=scores, image_id=str(number), timeout_s=200)
    assert (result.labels == number).all(), np.unique(result.labels)

with RefineClient(sys.argv[1]) as client:
    refine(client, 1)
    child = os.fork()
    if child == 0:
        for _ in range(50):
            refine(client, 2)
        sys.exit()  # closes the client
    for _ in range(50):
        refine(client, 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    refine(client, 4)
"""


@pytest.mark.slow
def test_client_in_a_forked_process_has_its_own_connection_and_memory():
    with FakeTriton(*[named] * 200) as server:
        done = subprocess.run(
            [sys.executable, "-c", FORK, server.address], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        registered = server.calls("SystemSharedMemoryRegister")
        assert len({call.request.name for call in registered}) == 2
        assert len(server.calls("SystemSharedMemoryUnregister")) == 2
        assert server.regions == {}


# --- Pickling --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["spawn", "forkserver"])
def test_client_works_in_a_worker_that_it_was_pickled_to(how, small):
    with FakeTriton() as server, RefineClient(server.address) as client:
        client.refine(**small)  # connected, and pickled all the same
        with ProcessPoolExecutor(1, mp_context=get_context(how)) as pool:
            refine = methodcaller("refine", **small)
            result = pool.submit(refine, client).result(PATIENCE_S)
        assert result.labels.shape == client.refine(**small).labels.shape == (60, 90)
        assert result.image is None  # arrays are not pickled back


@pytest.mark.parametrize("kind", [RefineClient, AsyncRefineClient])
def test_client_is_pickled_as_address_and_options(kind):
    connection = ConnectionOptions(headers={"x-key": "abc"}, retries=Retries(attempts=2))
    copy = pickle.loads(pickle.dumps(kind(["127.0.0.1:1", "127.0.0.1:2"], connection=connection)))
    assert type(copy) is kind
    assert copy._arguments["url"] == "ipv4:127.0.0.1:1,127.0.0.1:2"
    assert copy._transport._headers == {"x-key": "abc"}
    assert copy._transport._retries == Retries(attempts=2)


def test_closed_client_is_not_pickled():
    client = RefineClient("127.0.0.1:1")
    client.close()
    with pytest.raises(UnreachableError, match="the client is closed"):
        pickle.dumps(client)


# --- What was doubtful -----------------------------------------------------------------------


def test_what_was_doubtful_is_in_the_result_of_every_way_to_ask(client_of, small):
    raw = small["logits"] - np.arange(1, len(small["logits"]) + 1)[:, None, None]
    doubtful = {"image": small["image"].astype(np.uint16), "logits": raw}
    with FakeTriton() as server, client_of(server.address) as client:
        result = client.refine(**doubtful)
        (outcome,) = client.refine_many([doubtful])
        embedding = replace(client.embed(doubtful["image"]), size_hw=(60, 90))
        of_embedding = client.refine(embedding=embedding, logits=doubtful["logits"])
        sure = client.refine(**{**small, "activation": "none"})
    of_image, of_scores = result.warnings
    assert "16 bits per channel" in of_image
    assert "give activation=" in of_scores
    assert outcome.result.warnings == of_embedding.warnings == result.warnings
    assert embedding.warnings == (of_image,)
    assert sure.warnings == ()


def test_coarse_map_that_the_client_has_is_not_asked_for(client_of, small):
    labels = np.arange(60 * 90).reshape(60, 90) % 3
    with FakeTriton() as server, client_of(server.address) as client:
        result = client.refine(**small, labels=labels)
        client.refine(**small)
        asked = [{each.name for each in seen.request.outputs} for seen in server.calls()]
    np.testing.assert_array_equal(result.coarse_labels, labels)
    assert ["COARSE_LABELS_UINT8" in names for names in asked] == [False, True]
    assert 0 < result.changed_fraction < 1
    assert result._repr_png_().startswith(b"\x89PNG")


def test_options_may_be_a_dict(client_of, small):
    with FakeTriton() as server, client_of(server.address) as client:
        client.refine(**small, options={"preset": "safe", "min_region_area": 9})
        (seen,) = server.calls()
    assert seen.request.parameters["min_region_area"].int64_param == 9
    assert seen.request.parameters["judge"].string_param == "rule"
