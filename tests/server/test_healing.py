"""The real networks, kept up: callers notice nothing but time.

Callers have the client's defaults and a deadline; what they get is compared with what a server that
nobody disturbed has answered.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from sam_refine_client import ConnectionOptions, RefineClient, RefineOptions, Retries
from support.cases import photo
from support.clients import CALLERS, DEADLINE_S, beside_callers
from support.servers import SPECS, Sent, form, get, supervised, wait_until
from support.tiny_models import with_judge

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("export, under load")]

INSTANCES = 2
"""Of `sam_refine`, each with a request; the others wait."""
STUBS = INSTANCES + 4
SIZE = (96, 128)
OPTIONS = RefineOptions(mask_prompt="none", min_region_area=1, iou_threshold=0.0)
SCORES = np.full((2, 6, 8), 0.1, np.float32)  # two regions, a corner and the rest: little work
SCORES[0] = 0.8
SCORES[:, :3, :4] = [[[0.1]], [[0.8]]]


def image(seed: int) -> np.ndarray:
    return np.roll(photo(*SIZE), 16 * seed, axis=1)


@pytest.fixture(scope="module")
def service(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("healing")
    with supervised(with_judge(repository, folder), folder / "serve.log") as service:
        yield service


@pytest.fixture(scope="module")
def undisturbed(server):
    """The labels of each image, by the server that all tests share."""
    with RefineClient(f"127.0.0.1:{server.grpc_port}") as client:
        answers = [refine(client, seed) for seed in range(CALLERS)]
    assert len({labels.tobytes() for labels in answers}) == CALLERS  # one is not another's
    return answers


def refine(client: RefineClient, seed: int) -> np.ndarray:
    result = client.refine(image(seed), logits=SCORES, options=OPTIONS, timeout_s=DEADLINE_S)
    return result.labels


def under_load(urls, act: Callable[[], None], requests: int) -> list[list[np.ndarray]]:
    """What each caller got for its image, `requests` times; `act` when all have got something."""
    return beside_callers(refine, urls, act, requests)


def assert_all_right(answers, undisturbed) -> None:
    for labels, expected in zip(answers, undisturbed, strict=True):
        for each in labels:
            np.testing.assert_array_equal(each, expected)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize(
    "model", ["sam_refine", "sam_preprocess", "sam_image_encoder", "sam_mask_decoder"]
)
def test_stub_lost_under_load_loses_no_request(service, undisturbed, model, number):
    if model == "sam_image_encoder" and number == signal.SIGKILL:
        service.run_directory.joinpath("embeddings").rename(service.run_directory / "gone")
    wait_until(lambda: len(service.stubs()) == STUBS)  # without those that were replaced
    victim = service.stubs(model)[0].process_id
    answers = under_load(service.url, lambda: os.kill(victim, number), requests=4)
    assert_all_right(answers, undisturbed)
    wait_until(service.is_ready)
    assert service.server == service.first_server
    goes_on = victim in {stub.process_id for stub in service.stubs()}
    if number == signal.SIGSTOP:
        assert goes_on or service.has_ended_itself(victim)
    else:
        assert not goes_on


def test_all_stubs_killed_at_once_are_healed(service, undisturbed):
    def kill_all():
        for stub in service.stubs():
            os.kill(stub.process_id, signal.SIGKILL)

    assert_all_right(under_load(service.url, kill_all, requests=3), undisturbed)
    wait_until(service.is_ready)


def test_tritonserver_killed_under_load_loses_no_request(service, undisturbed):
    victim = service.server
    answers = under_load(service.url, lambda: os.kill(victim, signal.SIGKILL), requests=3)
    assert_all_right(answers, undisturbed)
    wait_until(service.is_ready)
    assert service.server != victim


def test_folder_removed_under_load_loses_no_request(service, undisturbed):
    victim = service.server
    (folder,) = service.run_directory.parent.glob(f"sam-refine-{service.process.pid}-*")
    answers = under_load(service.url, lambda: shutil.rmtree(folder), requests=3)
    assert_all_right(answers, undisturbed)
    wait_until(lambda: service.server not in (0, victim))
    wait_until(service.is_ready)


def by_grpc(service, model: str, sent: Sent) -> None:
    """Call a model, to be refused."""
    request = pb.ModelInferRequest(model_name=model)
    for name, datatype, shape, data in sent:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
    with grpc.insecure_channel(service.url) as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=DEADLINE_S)


def by_http(service, model: str, sent: Sent) -> None:
    """The same at the other door."""
    request = form(service.ports["http_port"], model, sent)
    with pytest.raises((urllib.error.HTTPError, ConnectionError)):
        urllib.request.urlopen(request, timeout=DEADLINE_S)


def sent_to(model: str, shapes: dict[str, list[int]], sizes: dict[str, int]) -> Sent:
    """Inputs with these shapes and no bytes, or as many bytes; zeros for others that must be."""
    sent = []
    for name, spec in SPECS[model].items():
        if spec.optional and name not in {**shapes, **sizes}:
            continue
        shape = shapes.get(name, [abs(size) for size in spec.dims])
        size = 0 if name in shapes else math.prod(shape) * spec.dtype.itemsize
        sent.append((name, spec.datatype, shape, bytes(sizes.get(name, size))))
    return sent


HUGE = 2**62
KILLERS = [
    (by_grpc, "sam_refine", {"IMAGE": [0, HUGE, 3]}),
    (by_http, "sam_refine", {"LOGITS": [-2, -2, 0]}),
    (by_http, "sam_preprocess", {"IMAGE": [0, HUGE, 3]}),
    (by_grpc, "sam_embed", {"IMAGE": [0, HUGE, 3]}),
    (by_grpc, "sam_mask_decoder", {"point_labels": [0, HUGE]}),
    (by_grpc, "sam_mask_decoder", {"mask_prompts": [HUGE, 1, 256, 256]}),
    (by_http, "sam_mask_judge", {"mask_features": [HUGE, 29]}),
]


@pytest.mark.parametrize(("send", "model", "shapes"), KILLERS)
def test_shapes_that_overflow_cost_other_callers_no_request(
    service, undisturbed, send, model, shapes
):
    def kill():
        for _ in range(2):
            send(service, model, sent_to(model, shapes, {}))

    assert_all_right(under_load(service.url, kill, requests=3), undisturbed)
    wait_until(service.is_ready)


def test_body_that_unpacks_to_gigabytes_costs_other_callers_no_request(service, undisturbed):
    packer = zlib.compressobj(1, wbits=31)  # gzip, the quick way
    mebibyte = bytes(2**20)
    body = b"".join(packer.compress(mebibyte) for _ in range(2050)) + packer.flush()
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    url = f"http://127.0.0.1:{service.ports['http_port']}/v2/models/sam_refine/infer"

    def burst():
        server, request = service.server, urllib.request.Request(url, body, headers)
        with pytest.raises((urllib.error.HTTPError, ConnectionError)) as refused:
            urllib.request.urlopen(request, timeout=DEADLINE_S)
        if not isinstance(refused.value, urllib.error.HTTPError):  # it aborts, which takes a while
            wait_until(lambda: service.server not in (0, server))

    assert_all_right(under_load(service.url, burst, requests=3), undisturbed)
    wait_until(service.is_ready)


MISFITS = [
    (by_grpc, "sam_refine", {"IMAGE": 5, "LOGITS": 7}),
    (by_http, "sam_preprocess", {"IMAGE": 5}),
    (by_grpc, "sam_mask_decoder", {"mask_prompts": 3}),
    (by_http, "sam_mask_judge", {"mask_features": 2**20}),
]


def test_bytes_that_do_not_fit_their_shape_cost_nobody_anything(service, undisturbed):
    def misfit():
        for send, model, sizes in MISFITS:
            send(service, model, sent_to(model, {}, sizes))

    wait_until(lambda: len(service.stubs()) == STUBS)
    stubs = {stub.process_id for stub in service.stubs()}
    assert_all_right(under_load(service.url, misfit, requests=2), undisturbed)
    assert {stub.process_id for stub in service.stubs()} == stubs


def test_machine_that_stands_still_mixes_up_no_answers(service, undisturbed):
    """For longer than Triton waits until it takes a stub for dead."""

    def stand_still():
        for _ in range(3):
            stubs = [stub.process_id for stub in service.stubs()]
            stopped = [service.process.pid, service.server, *stubs]
            for number, processes in ((signal.SIGSTOP, stopped), (signal.SIGCONT, stopped[::-1])):
                for process_id in processes:
                    with suppress(ProcessLookupError):
                        os.kill(process_id, number)
                if number == signal.SIGSTOP:
                    time.sleep(2)
            wait_until(service.is_ready)

    answers = under_load(service.url, stand_still, requests=16)
    assert_all_right(answers, undisturbed)


def test_rolling_restart_loses_none_of_200_requests(service, repository, undisturbed, tmp_path):
    with supervised(repository, tmp_path / "second.log") as second:
        urls = [second.url, service.url]
        ended = []

        def end():
            second.process.send_signal(signal.SIGTERM)
            ended.append(second.process.wait())

        answers = under_load(urls, end, requests=200 // CALLERS)
        assert_all_right(answers, undisturbed)
        assert ended == [0]


def test_requests_in_flight_are_answered_by_a_server_that_ends(repository, undisturbed, tmp_path):
    """To callers that never call again."""
    once = ConnectionOptions(retries=Retries(attempts=1))
    with supervised(repository, tmp_path / "ending.log") as service:
        waiting = threading.Barrier(CALLERS + 1)

        def call(seed: int) -> np.ndarray:
            with RefineClient(service.url, connection=once) as client:
                waiting.wait(DEADLINE_S)
                return refine(client, seed)

        with ThreadPoolExecutor(CALLERS) as pool:
            calls = [pool.submit(call, seed) for seed in range(CALLERS)]
            waiting.wait(DEADLINE_S)
            wait_until(lambda: pending(service) == CALLERS - INSTANCES)
            service.process.send_signal(signal.SIGTERM)
            for call_, expected in zip(calls, undisturbed, strict=True):
                np.testing.assert_array_equal(call_.result(), expected)
        assert service.process.wait() == 0


@pytest.mark.parametrize("model", ["sam_refine", "sam_image_encoder"])
def test_stub_that_dies_in_a_server_that_ends_costs_no_request(
    repository, undisturbed, tmp_path, model
):
    """Unless tritonserver ends itself, which it does where the stub has held a lock of theirs."""
    patience = {"exit_timeout_s": DEADLINE_S}
    for attempt in range(3):
        log = tmp_path / f"ending{attempt}.log"
        with (
            supervised(repository, log, options=patience) as service,
            RefineClient(service.url) as client,
            ThreadPoolExecutor(CALLERS) as pool,
        ):
            calls = [pool.submit(refine, client, seed) for seed in range(CALLERS)]
            wait_until(lambda: pending(service) == CALLERS - INSTANCES)
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not takes_requests(service))
            for victim in service.stubs(model)[:1]:
                os.kill(victim.process_id, signal.SIGKILL)
            wait(calls)
            if "lock_exception" in service.triton_log():
                continue
            assert_all_right([[call.result()] for call in calls], undisturbed)
            assert service.process.wait() == 0
            return
    pytest.fail("three stubs had a lock when they were killed")


def takes_requests(service) -> bool:
    with suppress(OSError):
        url = f"http://127.0.0.1:{service.ports['http_port']}/v2/models/sam_refine/ready"
        return get(url)[0] == 200
    return False


def pending(service) -> int:
    """How many requests wait for an instance of `sam_refine`."""
    page = get(f"http://127.0.0.1:{service.ports['metrics_port']}/metrics")[1]
    (count,) = re.findall(
        r'^nv_inference_pending_request_count\{model="sam_refine".*\} (\d+)$', page, re.MULTILINE
    )
    return int(count)
