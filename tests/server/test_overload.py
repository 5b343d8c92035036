"""More work than fits: what is begun is finished in time, what cannot be is refused in words."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from sam_refine_client import RefineClient, RefineOptions
from support.cases import photo
from support.metrics import scrape
from support.servers import calls_of

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("export, under load")]

SIZE = (96, 128)
SCORES = np.random.default_rng(0).random((3, 6, 8), np.float32)
OPTIONS = {"mask_prompt": "none", "min_region_area": 1}
PLACES = 2 + 16
"""Instances of `sam_refine`, and what may wait for them at each priority."""
CALLS = PLACES + 12


def image(seed: int) -> np.ndarray:
    return np.roll(photo(*SIZE), seed, axis=1)


@pytest.fixture(scope="module")
def clients(server):
    """A connection for each call, so that none waits for another's."""
    url = f"127.0.0.1:{server.grpc_port}"
    clients = [tritonclient.grpc.InferenceServerClient(url) for _ in range(CALLS)]
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def send(clients):
    """send(arguments of each call) -> (text of its failure, or "", and when it ended) of each."""

    def call(client, arguments):
        seed = arguments.pop("seed", 0)
        parameters = {**OPTIONS, **arguments.pop("parameters", {})}
        try:
            calls_of(client)(
                {"IMAGE": image(seed), "LOGITS": SCORES},
                ["REFINED_LABELS"],
                parameters,
                **arguments,
            )
        except InferenceServerException as error:
            return f"{error.status()}: {error.message()}", time.monotonic()
        return "", time.monotonic()

    def send(*calls):
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(call, clients, calls))

    return send


def failures(server, reason: str) -> float:
    return scrape(server.metrics_port)[f'sam_refine_request_failures_total{{reason="{reason}"}}']


def cancelled(server) -> float:
    """What Triton has taken out of its queue."""
    series = scrape(server.metrics_port)
    return sum(
        value
        for name, value in series.items()
        if name.startswith("nv_inference_request_failure")
        and 'model="sam_refine"' in name
        and 'reason="CANCELED"' in name
    )


def begun(server) -> float:
    return scrape(server.metrics_port)[
        'sam_refine_stage_duration_seconds_count{stage="split_regions"}'
    ]


def test_what_finds_no_place_in_the_queue_is_refused_at_once(send):
    texts = [text for text, _ in send(*({} for _ in range(CALLS)))]
    assert set(texts) == {"", texts[-1] or max(texts)}, "one sentence for all"
    assert "StatusCode.UNAVAILABLE" in max(texts)
    assert "Exceeds maximum queue size" in max(texts)
    assert texts.count("") >= PLACES


def test_client_waits_for_a_place(server):
    options = RefineOptions(**OPTIONS)
    with RefineClient(f"127.0.0.1:{server.grpc_port}") as client, ThreadPoolExecutor(CALLS) as pool:
        calls = [
            pool.submit(client.refine, image(0), logits=SCORES, options=options, timeout_s=120)
            for _ in range(CALLS)
        ]
        assert {call.result().labels.shape for call in calls} == {SIZE}


def test_what_was_cancelled_in_the_queue_is_not_begun(server, send):
    before, work = cancelled(server), begun(server)
    answers = send(
        *({"seed": 10 + seed} for seed in range(6)),
        *({"client_timeout": 0.2, "seed": 20} for _ in range(10)),
    )
    assert any("DEADLINE_EXCEEDED" in text for text, _ in answers)
    assert cancelled(server) > before
    assert begun(server) - work < len(answers)


def test_wait_in_the_queue_ends_when_its_timeout_says_so(send):
    answers = send(*({"seed": 30 + seed} for seed in range(6)), *({"timeout": 1},) * 6)
    texts = [text for text, _ in answers if text]
    assert texts == ["StatusCode.UNAVAILABLE: Request timeout expired"] * len(texts)
    assert texts


def test_work_that_would_come_too_late_is_not_begun(server, send):
    send({}, {})  # both instances know what it takes
    work, refused = begun(server), failures(server, "too_late")
    ((text, _),) = send({"parameters": {"work_time_s": 1e-6}})
    assert text.startswith("StatusCode.UNAVAILABLE")
    assert "the work takes about " in text
    assert "but work_time_s leaves 0.000 s" in text
    assert (begun(server), failures(server, "too_late")) == (work, refused + 1)


def test_urgent_call_overtakes_those_that_wait(send):
    patient = [{"seed": 40 + seed, "priority": 2} for seed in range(10)]
    answers = send(*patient, {"seed": 50, "priority": 1})
    assert not any(text for text, _ in answers)
    *others, urgent = [ended_s for _, ended_s in answers]
    assert sum(ended_s > urgent for ended_s in others) >= 4
