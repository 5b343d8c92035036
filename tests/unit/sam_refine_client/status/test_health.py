"""`health` and `info` of servers of which something is wrong; both clients."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import grpc
import numpy as np
import pytest

from sam_refine.contract import MODELS, ArrayLibrary
from sam_refine_client import (
    ConnectionOptions,
    DeadlineError,
    ForbiddenError,
    InvalidRequestError,
    Limits,
    ModelState,
    ProtocolError,
    Retries,
    ServerError,
    ServerInfo,
    UnreachableError,
)
from sam_refine_client.status.info import agreed_networks
from support.fake_triton import (
    PATIENCE_S,
    FakeTriton,
    answer_with,
    hang,
    silent_listener,
    status,
    without,
)

ONCE = ConnectionOptions(retries=Retries(attempts=1))
RIGHT = {
    "REFINED_LABELS_UINT8": np.zeros((64, 64)),
    "REGION_CLASSES": [0, 1],
    "REGION_IOUS": [0.9, 0.9],
}


def embedding(value=1.0):
    """The answer to the canary's image."""
    arrays = {"IMAGE_SIZE": 64, "EMBEDDING": value}
    return lambda server, request, context: answer_with(
        server, request, lambda name, array: (array * arrays[name]).astype(array.dtype)
    )


def canary(**columns):
    """The answer to the canary's map, with some columns of its regions changed."""
    columns = {**RIGHT, **columns}

    def column(name, array):
        return np.array(columns[name], array.dtype) if name in columns else array

    return lambda server, request, context: answer_with(server, request, column)


def health_of(client_of, server, **arguments):
    with client_of(server.address, connection=ONCE) as client:
        return client.health(**arguments)


def test_health_of_a_right_answer_is_healthy(client_of):
    with FakeTriton(embedding(), canary()) as server:
        health = health_of(client_of, server)
        assert (health.problems, health.is_healthy, health.is_ready) == ((), True, True)
        assert health.models == {model.name: True for model in MODELS}
        assert health.canary_ms > 0
        assert [seen.request.model_name for seen in server.calls()] == ["sam_embed", "sam_refine"]


def test_health_without_canary_sends_none(client_of):
    with FakeTriton() as server:
        assert health_of(client_of, server, canary=False).is_healthy
        assert server.calls() == []


def test_health_asks_with_the_headers_and_the_deadline(client_of):
    connection = ConnectionOptions(headers={"authorization": "Bearer x"})
    with FakeTriton(embedding(), canary()) as server:
        with client_of(server.address, connection=connection) as client:
            assert client.health(timeout_s=70).is_healthy
            client.info(timeout_s=70)
        for seen in server.seen:
            assert seen.headers["authorization"] == "Bearer x"
            assert 0 < seen.time_remaining_s <= 72.1


def test_health_where_nobody_listens_says_what_to_do_at_once(client_of):
    with client_of("127.0.0.1:1") as client:
        health = client.health()
    assert (health.is_live, health.is_ready, health.models) == (False, False, {})
    (problem,) = health.problems
    assert problem.startswith("no answer: ")
    assert "does `sam-refine serve` run there, is this its gRPC port (8001" in problem
    assert "sam-refine health" not in problem


def test_health_where_nobody_speaks_ends_with_the_deadline(client_of):
    with silent_listener() as port, client_of(f"127.0.0.1:{port}") as client:
        (problem,) = client.health(timeout_s=0.3).problems
    assert problem.startswith("no answer: ")


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady", "ModelReady"])
def test_health_of_a_server_that_hangs_ends_with_the_deadline(client_of, method):
    with FakeTriton() as server:
        server.hangs.add(method)
        (problem,) = health_of(client_of, server, timeout_s=0.3).problems
        assert problem.endswith("; give it more time, or the server less work")
        assert server.calls() == []


def test_health_of_another_service_asks_for_the_port(client_of):
    with FakeTriton() as server:
        server.statuses["ServerLive"] = grpc.StatusCode.UNIMPLEMENTED
        (problem,) = health_of(client_of, server).problems
    assert (
        problem == "what answers is not a Triton server: ServerLive fails; is this its gRPC port?"
    )


def test_health_that_is_forbidden_says_so(client_of):
    with FakeTriton() as server:
        server.statuses["ServerLive"] = grpc.StatusCode.PERMISSION_DENIED
        (problem,) = health_of(client_of, server).problems
    assert problem == f"no answer: ServerLive fails; {ForbiddenError.advice}"


def test_health_names_each_model_that_is_not_ready_and_why(client_of):
    with FakeTriton() as server:
        server.models["sam_refine"] = ("LOADING", "")
        server.models["sam_image_encoder"] = ("UNAVAILABLE", "no such\n  graph")
        del server.models["sam_mask_decoder"]
        health = health_of(client_of, server)
        assert server.calls() == []
    assert not health.is_ready
    assert [name for name, is_ready in health.models.items() if not is_ready] == [
        "sam_refine",
        "sam_image_encoder",
        "sam_mask_decoder",
    ]
    assert health.problems == (
        "sam_refine is loading; ask again later",
        "sam_image_encoder is not ready (no such graph); the server's log says why",
        "sam_mask_decoder is not there; serve what `sam-refine export` wrote",
    )


def test_health_where_reasons_are_restricted_goes_without(client_of):
    with FakeTriton() as server:
        server.models["sam_embed"] = ("UNAVAILABLE", "secret")
        server.statuses["RepositoryIndex"] = grpc.StatusCode.PERMISSION_DENIED
        health = health_of(client_of, server)
    assert health.problems == ("sam_embed is not ready; the server's log says why",)


def test_health_of_a_server_with_another_model_that_fails_says_so(client_of):
    with FakeTriton() as server:
        server.models["of_somebody_else"] = ("UNAVAILABLE", "")
        health = health_of(client_of, server)
    assert all(health.models.values())
    (problem,) = health.problems
    assert problem.startswith("the server is not ready although all models of sam-refine are")


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([status(grpc.StatusCode.INTERNAL)], "the canary failed: said the server; the server's"),
        (
            [embedding(), status(grpc.StatusCode.UNAVAILABLE)],
            "the canary failed: said the server; send",
        ),
        ([embedding(), without("REGION_KEPT")], "the canary failed: the answer lacks REGION_KEPT"),
        ([hang], "the canary failed: Deadline Exceeded; give it more time"),
        (
            [embedding(math.nan), canary()],
            "the embedding of the canary has values that are not finite",
        ),
        (
            [embedding(), canary(REGION_CLASSES=[1, 1])],
            "the canary has regions of the classes 0 and 1",
        ),
        (
            [embedding(), canary(REGION_IOUS=[0.9, math.nan])],
            "the predicted IoUs of the canary are not",
        ),
    ],
)
def test_health_says_what_is_wrong_with_the_canary(client_of, answers, problem):
    with FakeTriton(*answers) as server:
        timeout_s = 1 if "Deadline" in problem else PATIENCE_S
        health = health_of(client_of, server, timeout_s=timeout_s)
    assert health.is_ready
    assert health.canary_ms is None
    assert not health.is_healthy
    (found,) = health.problems
    assert found.startswith(problem)
    assert "\n" not in found


def test_health_of_a_client_that_is_closed_meanwhile_says_so(client_of):
    found = []
    with FakeTriton(hang) as server:
        client = client_of(server.address)
        thread = threading.Thread(target=lambda: found.append(client.health()))
        thread.start()
        server.wait_for()
        client.close()
        thread.join(5)
    (health,) = found
    (problem,) = health.problems
    assert problem.startswith("the canary failed: the client was closed")


def test_info_reads_every_model(client_of):
    with FakeTriton() as server, client_of(server.address) as client:
        config = server.configs["sam_refine"]
        config.parameters["max_classes"].string_value = "21"
        config.parameters["networks_sha256"].string_value = "ab12"
        config.instance_group.add(count=3, kind="KIND_CPU")
        server.configs["sam_mask_decoder"].instance_group.add(count=2, kind="KIND_GPU", gpus=[0, 1])
        server.models["sam_preprocess"] = ("UNLOADING", "unloads")
        del server.models["sam_embed"]
        info = client.info()
    models = {model.name: model for model in info.models}
    assert (info.name, info.version, info.differences) == ("triton", "2.51.0", ())
    assert info.limits == Limits(max_classes=21)
    assert info.networks_sha256 == "ab12"
    assert (models["sam_refine"].instances, models["sam_refine"].device) == (3, "CPU")
    assert (models["sam_mask_decoder"].instances, models["sam_mask_decoder"].device) == (4, "GPU")
    assert models["sam_preprocess"].state is ModelState.UNLOADING
    assert models["sam_preprocess"].reason == "unloads"
    assert models["sam_embed"].state is ModelState.MISSING


@pytest.mark.parametrize("said", [None, ""])
def test_info_of_an_earlier_export_names_no_networks(client_of, said):
    with FakeTriton() as server, client_of(server.address) as client:
        if said is not None:
            server.configs["sam_refine"].parameters["networks_sha256"].string_value = said
        assert client.info().networks_sha256 is None


def test_servers_agree_on_their_networks_or_are_named():
    def infos(*said):
        info = ServerInfo("triton", "2.51.0", (), Limits(), ArrayLibrary.NUMPY, ())
        return {f"{at}:8001": replace(info, networks_sha256=each) for at, each in enumerate(said)}

    assert agreed_networks(infos("ab", "ab")) == "ab"
    assert agreed_networks(infos(None, None)) is None
    for said in ("cd", None):
        text = f"must serve the same networks: 0:8001 has ab, 1:8001 has {said}$"
        with pytest.raises(InvalidRequestError, match=text):
            agreed_networks(infos("ab", said))


def test_info_of_a_server_without_the_model_has_no_limits(client_of):
    with FakeTriton() as server, client_of(server.address) as client:
        server.models.clear()
        info = client.info()
    assert (info.limits, info.array_library) == (None, None)
    assert {model.state for model in info.models} == {ModelState.MISSING}


def test_info_says_where_the_server_is_of_another_version(client_of):
    with FakeTriton() as server, client_of(server.address) as client:
        config = server.configs["sam_refine"]
        del config.output[-1]
        config.input[4].dims[:] = [-1, -1]
        info = client.info()
    assert info.differences == (
        "sam_refine's input LOGITS is FP32 (-1, -1), this client knows FP32 (-1, -1, -1)",
        "sam_refine has no output STAGE_TIMES_MS",
    )


@pytest.mark.parametrize(
    ("method", "code", "kind"),
    [
        ("ServerMetadata", grpc.StatusCode.UNAVAILABLE, UnreachableError),
        ("RepositoryIndex", grpc.StatusCode.INTERNAL, ServerError),
        ("ModelConfig", grpc.StatusCode.PERMISSION_DENIED, ForbiddenError),
        ("ModelConfig", grpc.StatusCode.UNIMPLEMENTED, ProtocolError),
    ],
)
def test_info_raises_what_the_status_means_and_asks_once(client_of, method, code, kind):
    with FakeTriton() as server, client_of(server.address) as client:
        server.statuses[method] = code
        with pytest.raises(kind, match=f"^{method} fails"):
            client.info()
        assert len(server.calls(method)) == 1


def test_info_where_the_index_has_a_key_goes_without(client_of):
    with FakeTriton() as server, client_of(server.address) as client:
        server.models["sam_embed"] = ("UNAVAILABLE", "it did not load")
        with_index = client.info()
        server.statuses["RepositoryIndex"] = grpc.StatusCode.PERMISSION_DENIED
        without = client.info()
    reasons = [replace(model, reason="", versions=()) for model in with_index.models]
    assert [replace(model, versions=()) for model in without.models] == reasons
    assert {model.name: model.state.value for model in without.models}["sam_embed"] == "unavailable"
    assert without.models[0].versions == with_index.models[0].versions


def test_info_of_a_server_that_hangs_ends_with_the_deadline(client_of):
    with FakeTriton() as server, client_of(server.address) as client:
        server.hangs.add("ServerMetadata")
        with pytest.raises(DeadlineError):
            client.info(timeout_s=0.2)


def test_info_of_limits_that_are_none_is_an_error_of_the_server(client_of):
    with FakeTriton() as server, client_of(server.address) as client:
        server.configs["sam_refine"].parameters["max_classes"].string_value = "many"
        with pytest.raises(ProtocolError, match="max_classes must be an integer >= 1, got 'many'"):
            client.info()
