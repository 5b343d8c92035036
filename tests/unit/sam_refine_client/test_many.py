"""`refine_many` of calls whose order and failures are known: real answers are in tests/server."""

import asyncio
import threading
from typing import Any

import grpc
import pytest

from sam_refine_client import (
    ConnectionOptions,
    InvalidRequestError,
    OverloadedError,
    RefineClient,
    Retries,
    ServerError,
)
from sam_refine_client.many import stream, stream_async
from support.fake_triton import PATIENCE_S, FakeTriton, answer_with, hang, status


class Calls:
    """Stands for `refine`: each job says how long it takes and whether it fails."""

    def __init__(self):
        self.running = self.most_running = self.begun = 0
        self.ended = threading.Event()
        self._lock = threading.Lock()

    def _begin(self):
        with self._lock:
            self.begun += 1
            self.running += 1
            self.most_running = max(self.most_running, self.running)

    def _end(self, name, fails):
        with self._lock:
            self.running -= 1
        if fails:
            raise ServerError(f"{name} failed")
        return name

    def refine(self, name, takes_s=0.0, fails=False):
        self._begin()
        self.ended.wait(takes_s)
        return self._end(name, fails)

    async def refine_async(self, name, takes_s=0.0, fails=False):
        self._begin()
        await asyncio.sleep(takes_s)
        return self._end(name, fails)


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture(params=["blocking", "awaited"])
def outcomes_of(request, calls):
    """outcomes_of(jobs, concurrency, in_order) -> list of outcomes."""

    def blocking(jobs, concurrency, in_order):
        end = calls.ended.set
        return list(stream(calls.refine, jobs, concurrency, in_order=in_order, end=end))

    def awaited(jobs, concurrency, in_order):
        async def collect():
            outcomes = stream_async(calls.refine_async, jobs, concurrency, in_order=in_order)
            return [outcome async for outcome in outcomes]

        return asyncio.run(collect())

    return {"blocking": blocking, "awaited": awaited}[request.param]


JOBS = [{"name": i, "takes_s": 0.01 * (7 * i % 5)} for i in range(20)]


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_refine_many_in_order_gives_every_job_once(outcomes_of, calls, concurrency):
    outcomes = outcomes_of(iter(JOBS), concurrency, in_order=True)
    assert [(outcome.index, outcome.result) for outcome in outcomes] == [(i, i) for i in range(20)]
    assert calls.most_running <= concurrency


def test_refine_many_as_completed_gives_every_job_once_the_fast_before_the_slow(outcomes_of):
    jobs = [{"name": "slow", "takes_s": 0.3}, *JOBS]
    outcomes = outcomes_of(jobs, 4, in_order=False)
    assert sorted(outcome.index for outcome in outcomes) == list(range(21))
    assert outcomes[0].result != "slow"


def test_refine_many_job_that_fails_is_an_outcome_and_the_others_go_on(outcomes_of):
    jobs = [{"name": i, "fails": i == 2} for i in range(5)]
    outcomes = outcomes_of(jobs, 2, in_order=True)
    assert [outcome.result for outcome in outcomes] == [0, 1, None, 3, 4]
    assert isinstance(outcomes[2].error, ServerError)
    assert outcomes[3].error is None


def test_refine_many_of_nothing_is_nothing(outcomes_of):
    assert outcomes_of([], 4, in_order=True) == []


def test_refine_many_fault_of_the_caller_is_raised(outcomes_of):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        outcomes_of([{"name": 1}, {"nome": 2}], 2, in_order=True)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("kind", ["blocking", "awaited", "awaited jobs"])
def test_refine_many_jobs_that_raise_do_so_after_the_outcomes_before(calls, kind, in_order):
    def jobs():
        yield from JOBS[:5]
        raise KeyError("mine")

    async def awaited_jobs():
        for job in jobs():
            yield job

    outcomes = []

    def collect():
        end = calls.ended.set
        for outcome in stream(calls.refine, jobs(), 3, in_order=in_order, end=end):
            outcomes.append(outcome.index)

    async def collect_async():
        source = jobs() if kind == "awaited" else awaited_jobs()
        async for outcome in stream_async(calls.refine_async, source, 3, in_order=in_order):
            outcomes.append(outcome.index)

    with pytest.raises(KeyError, match="mine"):
        collect() if kind == "blocking" else asyncio.run(collect_async())
    assert sorted(outcomes) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("in_order", [True, False])
def test_refine_many_takes_jobs_only_as_they_are_needed(calls, in_order):
    taken = 0

    def jobs():
        nonlocal taken
        for job in JOBS:
            taken += 1
            yield {"name": job["name"]}

    outcomes: Any = stream(calls.refine, jobs(), 2, in_order=in_order, end=calls.ended.set)
    for given in range(1, 15):
        next(outcomes)
        assert taken <= given + 4
    outcomes.close()


def test_refine_many_caller_that_stops_ends_the_work(calls):
    jobs = ({"name": i, "takes_s": 60 if i else 0} for i in range(1000))
    outcomes: Any = stream(calls.refine, jobs, 2, in_order=True, end=calls.ended.set)
    next(outcomes)
    outcomes.close()  # comes back, because those that were begun were ended
    assert calls.begun <= 5
    assert calls.running == 0


@pytest.mark.parametrize("concurrency", [0, 2.0, True])
def test_refine_many_of_no_calls_at_a_time_is_refused(concurrency):
    with (
        RefineClient() as client,
        pytest.raises(InvalidRequestError, match="concurrency must be an integer >= 1, got "),
    ):
        client.refine_many([], concurrency=concurrency)


def numbered(server, request, context):
    """Labels are the number in the request's `image_id`."""
    number = int(request.parameters["image_id"].string_param)
    return answer_with(
        server,
        request,
        lambda name, array: array * array.dtype.type(number) if array.ndim > 1 else array,
    )


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("size", ["small", "large"])
def test_refine_many_loses_nothing_where_the_server_is_started_anew(
    client_of, request, size, in_order
):
    call = request.getfixturevalue(size)
    jobs = ({**call, "image_id": str(number)} for number in range(60))
    first = FakeTriton(*[numbered] * 10, *[hang] * 100)
    connection = ConnectionOptions(retries=Retries(attempts=100, first_wait_s=0.05))
    outcomes = []

    def restart():
        first.wait_for(10 + 3)
        first.stop()
        with FakeTriton(*[numbered] * 100, port=first.port) as second:
            is_over.wait(PATIENCE_S)
            assert second.calls()

    is_over = threading.Event()
    operator = threading.Thread(target=restart)
    with first, client_of(first.address, connection=connection) as client:
        operator.start()
        for outcome in client.refine_many(jobs, concurrency=3, in_order=in_order):
            outcomes.append(outcome)
        is_over.set()
        operator.join()
    assert sorted(outcome.index for outcome in outcomes) == list(range(60))
    if in_order:
        assert [outcome.index for outcome in outcomes] == list(range(60))
    assert [outcome.error for outcome in outcomes] == [None] * 60
    assert all((outcome.result.labels == outcome.index).all() for outcome in outcomes)


def test_refine_many_goes_on_past_calls_that_fail_at_the_server(client_of, small):
    def answer(server, request, context):
        if int(request.parameters["image_id"].string_param) % 3 == 1:
            status(grpc.StatusCode.RESOURCE_EXHAUSTED)(server, request, context)
        return numbered(server, request, context)

    jobs = ({**small, "image_id": str(number)} for number in range(9))
    with FakeTriton(*[answer] * 100) as server, client_of(server.address) as client:
        outcomes = list(client.refine_many(jobs, concurrency=2))
        assert len(server.calls()) == 9
    errors = [type(outcome.error) for outcome in outcomes]
    assert errors == [type(None), OverloadedError, type(None)] * 3
