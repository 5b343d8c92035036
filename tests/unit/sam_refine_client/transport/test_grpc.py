"""Retries, deadlines, headers and wrong answers, as a server on the other side sees them."""

from __future__ import annotations

import io
import time

import grpc
import numpy as np
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from PIL import Image

from sam_refine.contract import SAM_EMBED, SAM_REFINE
from sam_refine.contract.serving.turns import too_late
from sam_refine_client import (
    ConnectionOptions,
    DeadlineError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RejectedError,
    Retries,
    UnreachableError,
)
from support.fake_triton import (
    PATIENCE_S,
    FakeTriton,
    answer_with,
    changed,
    edited,
    hang,
    late,
    right,
    status,
    without,
)

UNAVAILABLE = status(grpc.StatusCode.UNAVAILABLE)
ALL = ("labels", "coarse_labels", "logits", "regions")


def retries(attempts, first_wait_s=0.01, **options):
    return ConnectionOptions(retries=Retries(attempts, first_wait_s), **options)


# --- Retries ---------------------------------------------------------------------------------


def test_retry_succeeds_after_growing_waits(client_of, small):
    with (
        FakeTriton(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE) as server,
        client_of(server.address, connection=retries(4, 0.1)) as client,
    ):
        assert client.refine(**small).labels.shape == (60, 90)
        arrived = [call.arrived_s for call in server.calls()]
    assert len(arrived) == 4
    for wait, longest in zip(np.diff(arrived), (0.1, 0.2, 0.4), strict=True):
        assert wait >= longest / 2  # test_wait_grows says how long at most


def test_retry_that_meets_another_error_ends_with_that(client_of, small):
    answers = UNAVAILABLE, status(grpc.StatusCode.INVALID_ARGUMENT, "LOGITS must be finite")
    with (
        FakeTriton(*answers) as server,
        client_of(server.address, connection=retries(5)) as client,
        pytest.raises(RejectedError, match=r"^LOGITS must be finite"),
    ):
        client.refine(**small)
    assert len(server.calls()) == 2


def test_single_attempt_is_the_only_one(client_of, small):
    with (
        FakeTriton(UNAVAILABLE) as server,
        client_of(server.address, connection=retries(1)) as client,
        pytest.raises(OverloadedError),
    ):
        client.refine(**small)
    assert len(server.calls()) == 1


def test_server_with_too_little_shared_memory_is_not_asked_until_the_deadline(client_of, small):
    text = "Failed to increase the shared memory pool size for key 'x' to 9 bytes"
    no_room = status(grpc.StatusCode.INTERNAL, text)
    with (
        FakeTriton(right, *[no_room] * 9) as server,
        client_of(server.address, connection=retries(None, 0.001)) as client,
    ):
        client.refine(**small)
        with pytest.raises(OverloadedError, match=r"^Failed to increase the shared memory pool"):
            client.refine(**small, timeout_s=PATIENCE_S)
    assert len(server.calls()) == 1 + 8


def test_deadline_is_divided_between_queue_and_work(client_of, small):
    with FakeTriton() as server, client_of(server.address) as client:
        client.refine(**small, timeout_s=PATIENCE_S)
        client.refine(**small)
    with_deadline, without_one = (call.request.parameters for call in server.calls())
    wait_s = with_deadline["timeout"].int64_param / 1e6
    work_s = with_deadline["work_time_s"].double_param
    assert wait_s == pytest.approx(work_s, rel=0.01)
    assert PATIENCE_S / 2 < wait_s + work_s <= PATIENCE_S
    assert with_deadline["priority"].uint64_param == 1
    assert {"timeout", "work_time_s"}.isdisjoint(without_one)


def test_work_that_needs_more_than_its_half_gets_it(client_of, small):
    needed_s = 0.75 * PATIENCE_S
    refusal = status(grpc.StatusCode.UNAVAILABLE, too_late(needed_s, PATIENCE_S / 2))
    with FakeTriton(refusal) as server, client_of(server.address) as client:
        client.refine(**small, timeout_s=PATIENCE_S)
    _, second = (call.request.parameters for call in server.calls())
    assert second["work_time_s"].double_param == pytest.approx(needed_s)


def test_work_that_needs_more_than_is_left_is_not_asked_for_again(client_of, small):
    refusal = status(grpc.StatusCode.UNAVAILABLE, too_late(2 * PATIENCE_S, 1))
    with (
        FakeTriton(refusal) as server,
        client_of(server.address) as client,
        pytest.raises(DeadlineError, match=r"^the work takes about 120\.000 s, but work_time_s"),
    ):
        client.refine(**small, timeout_s=PATIENCE_S)
    assert len(server.calls()) == 1


def test_server_that_is_not_live_is_unreachable(client_of, small):
    with FakeTriton(UNAVAILABLE) as server:
        server.statuses["ServerLive"] = grpc.StatusCode.UNAVAILABLE
        with (
            client_of(server.address, connection=retries(1)) as client,
            pytest.raises(UnreachableError, match=r"said the server .*; is the server running"),
        ):
            client.refine(**small)


@pytest.mark.parametrize("attempt", [1, 2, 5, 12, 2000])
def test_wait_grows_up_to_the_longest_and_is_never_twice_the_same(attempt):
    """After 1100 attempts, an hour and a half, two to their power is beyond a float."""
    options = Retries(first_wait_s=0.2, longest_wait_s=5)
    longest = min(5, 0.2 * 2 ** (min(attempt, 20) - 1))
    waits = {options.wait_s(attempt) for _ in range(50)}
    assert len(waits) == 50
    assert longest / 2 <= min(waits) < longest * 0.6
    assert longest * 0.9 < max(waits) <= longest


@pytest.mark.parametrize("first_wait_s", [0.02, 10_000])
def test_retries_end_before_the_deadline(client_of, small, first_wait_s):
    """And not after the hours that the waits would take; where a busy machine makes the last call
    late, with it."""
    options = ConnectionOptions(retries=Retries(1000, first_wait_s, longest_wait_s=10_000))
    with (
        FakeTriton(*[UNAVAILABLE] * 1000) as server,
        client_of(server.address, connection=options) as client,
        pytest.raises((OverloadedError, UnreachableError, DeadlineError)) as caught,
    ):
        client.refine(**small, timeout_s=0.5)
    assert caught.value.__cause__ is not None


# --- Deadlines -------------------------------------------------------------------------------


def test_deadline_is_known_to_the_server_less_what_has_passed(client_of, small):
    with (
        FakeTriton(UNAVAILABLE) as server,
        client_of(server.address, connection=retries(2, 0.8)) as client,
    ):
        client.refine(**small, timeout_s=10)
        first, second = (call.time_remaining_s for call in server.calls())
        client.refine(**small)
        assert server.calls()[-1].time_remaining_s > 1e9  # there is none
    assert 0 < second < first <= 10.3  # gRPC rounds up, by 3 % at most


def test_deadline_ends_a_call_that_hangs_for_both_sides(client_of, small):
    with FakeTriton(hang) as server, client_of(server.address) as client:
        started = time.monotonic()
        with pytest.raises(DeadlineError, match="give it more time"):
            client.refine(**small, timeout_s=0.3)
        assert time.monotonic() - started >= 0.3
        seen = server.wait_for()
        assert seen.time_remaining_s <= 0.31
        assert seen.ended.wait(PATIENCE_S)
        assert client.refine(**small).labels is not None


def test_answer_that_comes_late_but_in_time_is_taken(client_of, small):
    with FakeTriton(late(0.4)) as server, client_of(server.address) as client:
        assert client.refine(**small, timeout_s=PATIENCE_S).labels is not None
    assert len(server.calls()) == 1


@pytest.mark.parametrize("size", ["small", "large"])
def test_deadline_that_passed_before_sending_sends_nothing(client_of, request, size):
    with FakeTriton() as server, client_of(server.address) as client:
        with pytest.raises(DeadlineError, match=r"^the deadline passed \(model sam_refine, reque"):
            client.refine(**request.getfixturevalue(size), timeout_s=1e-9)
        assert server.seen == []


@pytest.mark.parametrize("timeout_s", [1e10, 1e30, float("inf")])
def test_deadline_beyond_what_grpc_can_hold_is_none(client_of, small, timeout_s):
    with FakeTriton() as server, client_of(server.address) as client:
        assert client.refine(**small, timeout_s=timeout_s).labels is not None


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_deadline_that_is_none_is_refused(client_of, small, timeout_s):
    with (
        client_of() as client,
        pytest.raises(InvalidRequestError, match="timeout_s must be > 0, got "),
    ):
        client.refine(**small, timeout_s=timeout_s)


@pytest.mark.parametrize(
    "method", ["SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "ServerLive"]
)
def test_deadline_holds_for_what_goes_with_a_call_too(client_of, large, method):
    with FakeTriton(*[UNAVAILABLE] * 9) as server:
        server.hangs.add(method)
        with client_of(server.address) as client:
            with pytest.raises((DeadlineError, OverloadedError, UnreachableError)):
                client.refine(**large, timeout_s=0.5)
            assert all(seen.time_remaining_s <= 0.52 for seen in server.calls(method))


# --- Headers ---------------------------------------------------------------------------------


def test_current_span_goes_with_every_request_for_inference(client_of, small):
    context = SpanContext(0xABC, 0xDEF, False, TraceFlags(TraceFlags.SAMPLED))
    with FakeTriton() as server, client_of(server.address) as client:
        with use_span(NonRecordingSpan(context)):
            client.refine(**small)
            outcomes = list(client.refine_many([small] * 5))
        assert [outcome.error for outcome in outcomes] == [None] * 5
        client.refine(**small)
        *inside, after = server.calls()
    assert len(inside) == 6
    for call in inside:
        assert call.headers["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert "traceparent" not in after.headers


def test_headers_go_with_every_call(client_of, large):
    options = retries(2, headers={"Authorization": "Bearer 17", "x-tenant": "a b"})
    with FakeTriton(UNAVAILABLE) as server:
        with client_of(server.address, connection=options) as client:
            client.refine(**large)
        seen = server.seen
    assert {call.method for call in seen} == {
        "ModelInfer",
        "ServerLive",
        "SystemSharedMemoryRegister",
        "SystemSharedMemoryStatus",
        "SystemSharedMemoryUnregister",
    }
    for call in seen:
        assert call.headers["authorization"] == "Bearer 17", call.method
        assert call.headers["x-tenant"] == "a b", call.method


# --- Wrong answers ---------------------------------------------------------------------------


def raw(change):
    """The bytes of the first output that has any, changed."""

    def edit(response):
        index = next(i for i, content in enumerate(response.raw_output_contents) if content)
        response.raw_output_contents[index] = change(response.raw_output_contents[index])

    return edited(edit)


def of_first_output(**fields):
    def edit(response):
        for name, value in fields.items():
            if name == "shape":
                response.outputs[0].shape[:] = value
            else:
                setattr(response.outputs[0], name, value)

    return edited(edit)


@pytest.mark.parametrize("name", SAM_REFINE.output_names)
def test_answer_without_an_output_is_named(client_of, small, name):
    asked = [n for n in SAM_REFINE.output_names if n.startswith(("REGION", "STAGE", "REFINED_LOG"))]
    asked += ["REFINED_LABELS_UINT8", "COARSE_LABELS_UINT8"]
    with FakeTriton(without(name)) as server, client_of(server.address) as client:
        if name not in asked:
            assert client.refine(**small, outputs=ALL).labels is not None
            return
        with pytest.raises(ProtocolError, match=rf"^the answer lacks {name} \(model sam_refine, r"):
            client.refine(**small, outputs=ALL)
        assert client.refine(**small, outputs=ALL).labels is not None


@pytest.mark.parametrize("name", SAM_EMBED.output_names)
def test_embedding_without_an_output_is_named(client_of, small, name):
    with (
        FakeTriton(without(name)) as server,
        client_of(server.address) as client,
        pytest.raises(ProtocolError, match=rf"^the answer lacks {name} \(model sam_embed, request"),
    ):
        client.embed(small["image"])


LABELS = "REFINED_LABELS_UINT8"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (edited(lambda r: r.ClearField("outputs")), "the answer lacks REFINED_LABELS_UINT8, COARS"),
        (
            changed(LABELS, lambda array: array[1:]),
            r"in the answer REFINED_LABELS_UINT8 must be UINT8 \(60, 90\), got UINT8 \(59, 90\)",
        ),
        (changed(LABELS, np.transpose), r"must be UINT8 \(60, 90\), got UINT8 \(90, 60\)"),
        (changed(LABELS, np.ravel), r"must be UINT8 \(60, 90\), got UINT8 \(5400\)"),
        (changed(LABELS, lambda array: array.astype(np.int32)), r"UINT8 \(60, 90\), got INT32"),
        (of_first_output(datatype="COMPLEX"), r"must be UINT8 \(60, 90\), got COMPLEX \(60, 90\)"),
        (of_first_output(datatype="BYTES"), r"must be UINT8 \(60, 90\), got BYTES \(60, 90\)"),
        (of_first_output(shape=[-1, 90]), r"must be UINT8 \(60, 90\), got UINT8 \(-1, 90\)"),
        (of_first_output(shape=[2**40, 2**40]), r"UINT8 \(60, 90\), got UINT8 \(1099511627776, "),
        (
            changed("REFINED_LOGITS", lambda array: array[:2]),
            r"REFINED_LOGITS must be FP32 \(3, 60, 90\), got FP32 \(2, 60, 90\)",
        ),
        (
            changed("REFINED_LOGITS", lambda array: array.astype(np.float16)),
            r"REFINED_LOGITS must be FP32 \(3, 60, 90\), got FP16 \(3, 60, 90\)",
        ),
        (
            changed("REGION_SCORES", lambda array: array[:1]),
            r"REGION_SCORES must be FP32 \(2\), got FP32 \(1\)",
        ),
        (
            changed("REGION_BOXES", lambda array: np.ones((2, 5), np.int32)),
            r"REGION_BOXES must be INT32 \(2, 4\), got INT32 \(2, 5\)",
        ),
        (of_first_output(shape=[]), r"must be UINT8 \(60, 90\), got UINT8 \(\)"),
        (changed("STAGE_TIMES_MS", lambda array: array[:5]), r"FP32 \(7\), got FP32 \(5\)"),
        (
            raw(lambda content: content[:-1]),
            "REFINED_LABELS_UINT8 has fewer or more bytes than its",
        ),
        (raw(lambda content: content + b"x"), "has fewer or more bytes than its shape needs"),
        (raw(lambda content: b""), "has fewer or more bytes than its shape needs"),
        (edited(lambda r: r.raw_output_contents.pop()), "STAGE_TIMES_MS has fewer or more bytes"),
        (
            edited(lambda r: r.ClearField("raw_output_contents")),
            "has fewer or more bytes than its shape needs",
        ),
    ],
)
def test_wrong_answer_is_no_answer_of_this_version(client_of, small, answer, message):
    with FakeTriton(answer) as server, client_of(server.address) as client:
        with pytest.raises(ProtocolError, match=message) as caught:
            client.refine(**small, outputs=ALL)
        assert caught.value.request_id == server.calls()[0].request.id
        assert str(caught.value).endswith("must be of the same version (`sam-refine info`)")
        assert client.refine(**small, outputs=ALL).labels is not None
    assert len(server.calls()) == 2


def test_wrong_answers_are_all_listed(client_of, small):
    def answer(server, request, context):
        return answer_with(server, request, lambda name, array: array[:1])

    with (
        FakeTriton(answer) as server,
        client_of(server.address) as client,
        pytest.raises(ProtocolError, match=r"LABELS_UINT8 must be .*; STAGE_TIMES_MS must be FP32"),
    ):
        client.refine(**small, outputs=("labels",))


def test_sizes_that_the_request_does_not_tell_must_agree(client_of, small):
    """A JPEG is sent as it is: what comes for it must be of one size all the same."""
    file = io.BytesIO()
    Image.fromarray(small["image"]).save(file, "JPEG")
    small["image"] = file.getvalue()
    other = changed("COARSE_LABELS_UINT8", lambda array: array[1:])
    with (
        FakeTriton(right, of_first_output(shape=[-1, 90]), other) as server,
        client_of(server.address) as client,
    ):
        assert client.refine(**small, outputs=ALL).labels.shape == (60, 90)
        with pytest.raises(ProtocolError, match=r"must be UINT8 \(H, W\), got UINT8 \(-1, 90\)"):
            client.refine(**small, outputs=ALL)
        with pytest.raises(ProtocolError, match=r"COARSE_LABELS_UINT8 must be UINT8 \(60, 90\)"):
            client.refine(**small, outputs=ALL)


@pytest.mark.parametrize("name", ["EMBEDDING", "IMAGE_SIZE"])
@pytest.mark.parametrize(
    "change", [lambda a: a[:-1], lambda a: a.astype(np.float16), lambda a: a[None]]
)
def test_wrong_embedding_is_none(client_of, small, name, change):
    with (
        FakeTriton(changed(name, change)) as server,
        client_of(server.address) as client,
        pytest.raises(ProtocolError, match=f"in the answer {name} must be "),
    ):
        client.embed(small["image"])


@pytest.mark.parametrize("change", [lambda a: a[:, 1:], lambda a: a.astype(np.float16)])
def test_wrong_answer_by_shared_memory_is_none(client_of, large, change):
    with FakeTriton(changed("REFINED_LOGITS", change)) as server:
        with client_of(server.address) as client:
            with pytest.raises(ProtocolError, match=r"REFINED_LOGITS must be FP32 \(3, 700, 600\)"):
                client.refine(**large, outputs=ALL)
            assert client.refine(**large, outputs=ALL).logits.shape == (3, 700, 600)
        assert server.regions == {}


@pytest.mark.parametrize("size", ["small", "large"])
def test_arrays_of_the_answer_may_be_written_to(client_of, request, size):
    call = request.getfixturevalue(size)
    call["labels"] = np.zeros(call["image"].shape[:2], np.int32)
    with FakeTriton() as server, client_of(server.address) as client:
        result = client.refine(**call, outputs=ALL)
        result.labels[0, 0], result.coarse_labels[0, 0], result.logits[0, 0, 0] = 7, 8, 9
        values = client.embed(call["image"]).values
        values[...] = 5
