"""Large tensors through shared memory: the same answers, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc

from sam_refine.contract.serving.keys import SHARED_MEMORY_HEADER, read_key
from sam_refine_client import (
    AsyncRefineClient,
    ConnectionOptions,
    DeadlineError,
    InvalidRequestError,
    RefineClient,
    RefineOptions,
    RejectedError,
    ServerError,
)
from sam_refine_client.transport.turns import Turn, Turns
from sam_refine_deploy import Server, ServerOptions
from support.cases import coarse_scores, photo, upsampled
from support.fake_triton import PATIENCE_S
from support.servers import server_ports

pytestmark = pytest.mark.triton

SIZE = (480, 720)
IMAGE = photo(*SIZE)
SCORES = upsampled(coarse_scores().astype(np.float32), *SIZE)  # 8 MB
FAST = RefineOptions(mask_prompt="none", min_region_area=225)
ROWS, COLUMNS = np.indices(SIZE) // 8 % 2
CELLS = (ROWS & COLUMNS).astype(np.int32)
"""Each a region: far more than a second's work."""
ALL = ("labels", "coarse_labels", "logits", "regions")


def url_of(server):
    return f"127.0.0.1:{server.grpc_port}"


def connection(use):
    return ConnectionOptions(shared_memory=use)


def left_behind(process=None):
    """Shared memory of clients in `process`, else in this one."""
    names = f"sam_refine-*-{process or os.getpid()}-*"
    return [path.name for path in Path("/dev/shm").glob(names)]


@pytest.fixture
def regions(grpc_client, server):
    """regions() -> names of the regions that the server has registered."""

    def regions():
        headers = {SHARED_MEMORY_HEADER: read_key(server.grpc_port)}
        return sorted(grpc_client.get_system_shared_memory_status(headers=headers).regions)

    return regions


def test_shared_memory_gives_the_answer_of_messages_and_is_let_go(server, regions):
    with RefineClient(url_of(server), connection=connection("never")) as client:
        expected = client.refine(IMAGE, logits=SCORES, options=FAST, outputs=ALL)
        assert regions() == []
    with RefineClient(url_of(server)) as client:
        for _ in range(3):
            result = client.refine(IMAGE, logits=SCORES, options=FAST, outputs=ALL)
            np.testing.assert_array_equal(result.labels, expected.labels)
            np.testing.assert_array_equal(result.logits, expected.logits)
            assert result.regions == expected.regions
            assert len(regions()) == 1
            assert left_behind() == []
    assert regions() == []
    assert left_behind() == []


def test_results_are_the_caller_s_own(server):
    """Not views of memory that the next call writes to."""
    with RefineClient(url_of(server), connection=connection("always")) as client:
        first = client.refine(IMAGE, logits=SCORES, options=FAST, outputs=("logits",)).logits
        before = first.copy()
        client.refine(IMAGE, logits=SCORES / 2, options=FAST, outputs=("logits",))
        np.testing.assert_array_equal(first, before)


def test_small_requests_need_no_region(server, regions):
    with RefineClient(url_of(server), connection=connection("always")) as client:
        client.refine(photo(60, 90), logits=coarse_scores(), options=FAST)
        assert regions() == []


def test_calls_at_once_have_a_region_each(server, regions):
    async def refine_all():
        async with AsyncRefineClient(url_of(server)) as client:
            scores = [SCORES, SCORES[::-1], SCORES / 2]
            calls = [client.refine(IMAGE, logits=s, options=FAST) for s in scores]
            results = await asyncio.gather(*calls)
            return [result.labels for result in results], len(regions())

    labels, count = asyncio.run(refine_all())
    assert count == 3
    assert regions() == []
    with RefineClient(url_of(server), connection=connection("never")) as client:
        for scores, found in zip([SCORES, SCORES[::-1], SCORES / 2], labels, strict=True):
            expected = client.refine(IMAGE, logits=scores, options=FAST).labels
            np.testing.assert_array_equal(found, expected)


def test_rejected_request_is_rejected_and_the_next_one_answered(server):
    with RefineClient(url_of(server), connection=connection("always")) as client:
        with pytest.raises(RejectedError, match="judge learned needs a judge in the repository"):
            client.refine(IMAGE, logits=SCORES, options={"judge": "learned"})
        assert client.refine(IMAGE, logits=SCORES, options=FAST).labels is not None


def test_region_of_a_call_that_ended_early_is_not_used_again(server, regions, monkeypatch):
    closing_s = "sam_refine_client.transport.shared_memory._CLOSING_S"
    monkeypatch.setattr(closing_s, PATIENCE_S)  # the server may take its time to end the call
    monkeypatch.setattr(Turns, "of", lambda turns, call: Turn())  # or it would not begin it
    with RefineClient(url_of(server), connection=connection("always")) as client:
        client.refine(IMAGE, logits=SCORES, labels=CELLS, options=FAST)
        (before,) = regions()
        with pytest.raises(DeadlineError):
            client.refine(IMAGE, logits=SCORES, labels=CELLS, timeout_s=1)
        assert regions() == [before]
        client.refine(IMAGE, logits=SCORES, options=FAST)
        assert len(set(regions()) - {before}) == 1
    assert regions() == []


CLIENT = """
import sys, numpy as np
from sam_refine_client import RefineClient, RefineOptions
client = RefineClient(sys.argv[1])
image, scores = np.zeros((480, 720, 3), np.uint8), np.random.rand(6, 480, 720)
client.refine(image, logits=scores, options=RefineOptions(iou_threshold=0.0, min_region_area=9**9))
print("refined", flush=True)
input()
"""


def test_killed_client_leaves_nothing_and_the_next_one_tidies_up(server, regions):
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, url_of(server)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "refined\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left_behind(process.pid) == []
    (left,) = regions()
    assert f"-{process.pid}-" in left
    with RefineClient(url_of(server)) as client:
        client.refine(IMAGE, logits=SCORES, options=FAST)
        assert left not in regions()
    process.stdin.close()
    process.stdout.close()


def test_other_live_clients_regions_are_left_alone(server, regions):
    with RefineClient(url_of(server)) as first, RefineClient(url_of(server)) as second:
        first.refine(IMAGE, logits=SCORES, options=FAST)
        (before,) = regions()
        second.refine(IMAGE, logits=SCORES, options=FAST)
        assert before in regions()
        assert f"-{os.getpid()}-" in before


def test_server_started_anew_is_gone_on_with(repository, tmp_path):
    options = ServerOptions(repository, log_file=tmp_path / "triton.log", **server_ports())
    with RefineClient(f"127.0.0.1:{options.grpc_port}") as client:
        with Server(options):
            first = client.refine(IMAGE, logits=SCORES, options=FAST)
        with Server(options):
            again = client.refine(IMAGE, logits=SCORES, options=FAST, timeout_s=600)
        np.testing.assert_array_equal(again.labels, first.labels)
    assert left_behind() == []


class ServerOfAnotherMachine:
    """A server that finds no region by its name, as one in another container does not."""

    def __init__(self, connection):
        self._connection = connection

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def register_system_shared_memory(self, name, key, byte_size, **arguments):
        return self._connection.register_system_shared_memory(
            name, f"{key}-of-another-machine", byte_size, **arguments
        )


@pytest.mark.parametrize("use", ["auto", "always"])
def test_server_that_does_not_see_the_memory(server, use):
    with RefineClient(url_of(server), connection=connection(use)) as client:
        client._opened = ServerOfAnotherMachine(
            tritonclient.grpc.InferenceServerClient(url_of(server))
        )
        if use == "always":
            with pytest.raises((ServerError, RejectedError), match="shared memory"):
                client.refine(IMAGE, logits=SCORES, options=FAST)
        else:
            assert client.refine(IMAGE, logits=SCORES, options=FAST).labels is not None
    assert left_behind() == []


def test_unknown_use_is_refused():
    with pytest.raises(InvalidRequestError, match="shared_memory must be one of auto, always, nev"):
        connection("sometimes")
