"""Each gRPC status is one error that says what happened, where, and what to do."""

from __future__ import annotations

import copy
import pickle

import grpc
import pytest
from tritonclient.utils import InferenceServerException

from sam_refine_client import (
    CancelledError,
    ConnectionOptions,
    DeadlineError,
    ForbiddenError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RefineError,
    RejectedError,
    Retries,
    ServerError,
    UnreachableError,
)
from sam_refine_client.errors import error_of
from support.fake_triton import FakeTriton, status

EXPECTED = {
    "INVALID_ARGUMENT": RejectedError,
    "UNAUTHENTICATED": ForbiddenError,
    "PERMISSION_DENIED": ForbiddenError,
    "UNAVAILABLE": OverloadedError,  # of a server that is live
    "RESOURCE_EXHAUSTED": OverloadedError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "CANCELLED": CancelledError,
    "NOT_FOUND": ProtocolError,
    "UNIMPLEMENTED": ProtocolError,
}
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
THREE_ATTEMPTS = ConnectionOptions(retries=Retries(attempts=3, first_wait_s=0.01))


HTTP2 = "Received http2 header with status:"
FRAME = "Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame, got frame type"


@pytest.mark.parametrize(
    ("status", "text", "kind", "message"),
    [
        ("UNKNOWN", f"{HTTP2} 413", OverloadedError, "refuses a message of this size (HTTP 413)"),
        ("UNAVAILABLE", f"{HTTP2} 429", OverloadedError, "lets no more calls through now"),
        ("UNAVAILABLE", f"{HTTP2} 502", UnreachableError, "reaches no server behind it (HTTP 502)"),
        ("PERMISSION_DENIED", f"{HTTP2} 403", ForbiddenError, "does not let this caller in"),
        ("UNIMPLEMENTED", f"{HTTP2} 404", ProtocolError, "without a route for gRPC (HTTP 404)"),
        (
            "UNAVAILABLE",
            "last error: UNKNOWN: HTTP proxy returned response code 403",
            UnreachableError,
            "the HTTP proxy of the environment lets no connection to the server through (HTTP 403)",
        ),
        ("UNAVAILABLE", f"{FRAME} 80)", ProtocolError, "speaks HTTP/1, not gRPC"),
        ("UNAVAILABLE", "connect an http1.x server", ProtocolError, "speaks HTTP/1, not gRPC"),
        ("UNAVAILABLE", f"{FRAME} 0)", UnreachableError, "got frame type 0"),
    ],
)
def test_what_answers_in_a_servers_place_is_explained(status, text, kind, message):
    error = error_of(f"StatusCode.{status}", text)
    assert type(error) is kind
    assert message in error.message
    assert error.advice


def test_why_there_is_no_connection_is_said_without_what_grpc_puts_before_it():
    text = "connections to all backends failing; last error: UNKNOWN: ipv4:1.2.3.4:5: refused"
    error = error_of("StatusCode.UNAVAILABLE", text)
    assert (type(error), error.message) == (UnreachableError, "ipv4:1.2.3.4:5: refused")


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_status_decides_the_error_and_whether_the_call_is_made_again(client_of, small, code):
    with (
        FakeTriton(*[status(code)] * 3) as server,
        client_of(server.address, connection=THREE_ATTEMPTS) as client,
    ):
        with pytest.raises(RefineError) as caught:
            client.refine(**small)
        calls = server.calls()
    error = caught.value
    assert type(error) is EXPECTED.get(code.name, ServerError)
    assert error.model == "sam_refine"
    assert {call.request.id for call in calls} == {error.request_id}
    assert len(calls) == (3 if code is grpc.StatusCode.UNAVAILABLE else 1)
    advice = f"; {error.advice}" if error.advice else ""
    expected = f"said the server (model sam_refine, request {error.request_id}){advice}"
    assert str(error) == expected
    cause = error.__cause__
    assert isinstance(cause, InferenceServerException)
    assert cause.status() == f"StatusCode.{code.name}"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("INTERNAL", "Stub process 'sam_refine_0_1' is not healthy."),
        ("NOT_FOUND", "Request for unknown model: 'sam_refine' has no available versions"),
        ("UNAVAILABLE", "Request for unknown model: 'sam_refine' version 1 is not at ready state"),
        ("UNAVAILABLE", "Server not ready"),
        (
            "UNAVAILABLE",
            "Server is stopping, scheduler for model has stopped accepting new inference requests",
        ),
        ("CANCELLED", "CANCELLED"),
    ],
)
def test_texts_of_triton_for_what_will_be_back_are_tried_again(client_of, small, code, text):
    answers = [status(getattr(grpc.StatusCode, code), text)] * 2
    with (
        FakeTriton(*answers) as server,
        client_of(server.address, connection=THREE_ATTEMPTS) as client,
    ):
        assert client.refine(**small).labels is not None
        assert len(server.calls()) == 3
    with (
        FakeTriton(*answers) as server,
        client_of(
            server.address, connection=ConnectionOptions(retries=Retries(attempts=1))
        ) as client,
        pytest.raises(OverloadedError),
    ):
        client.refine(**small)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("StatusCode.UNAVAILABLE", UnreachableError),
        ("StatusCode.A_NEW_ONE", ServerError),
        ("", ServerError),
        (None, ServerError),
    ],
)
def test_status_that_no_server_sends_is_an_error_too(code, expected):
    assert type(error_of(code, "text")) is expected


@pytest.mark.parametrize("text", ["", None])
def test_answer_without_a_text_is_named_by_its_status(text):
    assert str(error_of("StatusCode.ABORTED", text)).startswith("the answer was ABORTED;")
    assert str(error_of(None, text)).startswith("the answer was an error;")


def test_missing_header_of_a_restricted_protocol_is_forbidden_and_a_full_queue_is_not():
    """Both have the status UNAVAILABLE."""
    text = "This protocol is restricted, expecting header 'triton-grpc-protocol-key'"
    assert type(error_of("StatusCode.UNAVAILABLE", text)) is ForbiddenError
    assert type(error_of("StatusCode.INTERNAL", text)) is ServerError
    assert type(error_of("StatusCode.UNAVAILABLE", "connection refused")) is UnreachableError
    text = "in ensemble 'sam_embed', Exceeds maximum queue size"
    assert type(error_of("StatusCode.UNAVAILABLE", text)) is OverloadedError


KINDS = [
    CancelledError,
    DeadlineError,
    ForbiddenError,
    OverloadedError,
    ProtocolError,
    RejectedError,
    ServerError,
    UnreachableError,
]


@pytest.mark.parametrize("advice", [None, "ask Ann"])
@pytest.mark.parametrize("kind", KINDS)
def test_error_survives_pickling_and_copying(kind, advice):
    """As on the way back from a process of multiprocessing."""
    error = kind("it failed", model="sam_embed", request_id="17", advice=advice)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
            assert type(twin) is kind
            assert (twin.message, twin.model, twin.request_id) == ("it failed", "sam_embed", "17")
            assert str(twin) == str(error)
    assert advice is None or str(error).endswith("; ask Ann")


def test_only_a_rejection_is_the_caller_s_fault():
    faults = [kind for kind in KINDS if issubclass(kind, InvalidRequestError)]
    assert faults == [RejectedError]
    assert all(issubclass(kind, RefineError) for kind in KINDS)
