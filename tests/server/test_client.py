"""`sam_refine_client`, blocking and awaited against the real server, and in this process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
import urllib.request
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sam_refine.contract import MODELS, ArrayLibrary
from sam_refine.contract.serving import gpu
from sam_refine_client import (
    AsyncRefineClient,
    ConnectionOptions,
    DeadlineError,
    InvalidRequestError,
    Limits,
    ModelState,
    RefineClient,
    RefineOptions,
    RejectedError,
    Retries,
    UnreachableError,
)
from sam_refine_deploy import Server, ServerOptions
from support.cases import DEMO_DATA, coarse_scores
from support.clients import Awaited
from support.servers import server_ports

pytestmark = pytest.mark.triton

PHOTO = DEMO_DATA / "photo.jpg"
FAST = RefineOptions(mask_prompt="none", min_region_area=225)


@pytest.fixture(scope="module", params=["blocking", "awaited", "local"])
def client(request, server, repository):
    url = f"127.0.0.1:{server.grpc_port}"
    client: Any = {
        "blocking": lambda: RefineClient(url),
        "awaited": lambda: Awaited(url),
        "local": lambda: RefineClient.local(repository),
    }[request.param]()
    yield client
    client.close()


ALL = ("labels", "coarse_labels", "logits", "regions")


@pytest.fixture(scope="module")
def result(client):
    return client.refine(PHOTO, logits=coarse_scores(), options=FAST, outputs=ALL)


@pytest.fixture(scope="module")
def reference(server):
    with RefineClient(f"127.0.0.1:{server.grpc_port}") as client:
        return client.refine(PHOTO, logits=coarse_scores(), options=FAST, outputs=ALL)


def test_result_has_what_was_asked_for(result):
    height, width = result.labels.shape
    assert (width, height) == Image.open(PHOTO).size
    assert result.labels.dtype == np.int32
    assert result.logits.shape == (len(coarse_scores()), height, width)
    assert 0 < np.mean(result.labels != result.coarse_labels) < 0.2
    assert result.timings["decode"] > 0


def test_image_id_of_another_picture_is_not_believed_by_default(client):
    scores, name = coarse_scores(), "a still of the client's test"
    outputs = ("regions",)
    with Image.open(PHOTO) as photo:
        first = client.refine(photo, logits=scores, options=FAST, outputs=outputs, image_id=name)
        black = Image.new("RGB", photo.size)
    again = client.refine(black, logits=scores, options=FAST, outputs=outputs, image_id=name)
    assert again.regions != first.regions
    unnamed = client.refine(black, logits=scores, options=FAST, outputs=outputs)
    assert unnamed.regions == again.regions


def test_image_id_that_is_too_long_is_rejected(client):
    with pytest.raises(RejectedError, match="image_id must be a text of 1 to 256 characters"):
        client.refine(PHOTO, logits=coarse_scores(), image_id="x" * 257)


def test_result_regions_are_in_order_and_kept_by_their_iou(result):
    assert [region.class_id for region in result.regions] == sorted(
        region.class_id for region in result.regions
    )
    for region in result.regions:
        x_min, y_min, x_max, y_max = region.box_xyxy
        assert 0 <= x_min <= x_max < 600
        assert 0 <= y_min <= y_max < 400
        assert region.kept == (region.predicted_iou > 0.8)
        assert 0 < region.score <= 1


def test_result_leaves_out_what_nobody_asked_for(client):
    result = client.refine(PHOTO, logits=coarse_scores(), options=FAST, outputs=("regions",))
    assert (result.labels, result.coarse_labels, result.logits) == (None, None, None)
    assert result.regions


@pytest.mark.parametrize("form", ["str", "bytes", "array", "pil"])
def test_image_in_any_form_gives_the_same_map(client, result, form):
    with Image.open(PHOTO) as photo:
        image = {
            "str": str(PHOTO),
            "bytes": PHOTO.read_bytes(),
            "array": np.asarray(photo),
            "pil": photo,
        }[form]
        labels = client.refine(image, logits=coarse_scores(), options=FAST).labels
    np.testing.assert_array_equal(labels, result.labels)


def test_labels_alone_are_refined_and_come_back_by_their_ids(client):
    """A mask of 0 and 255, with void of -1 above it: no scores, and nothing but the defaults."""
    with Image.open(PHOTO) as photo:
        height, width = photo.height, photo.width
    scores = np.repeat(np.repeat(coarse_scores(), 16, axis=1), 16, axis=2)
    mask = np.where(scores.argmax(0)[:height, :width] == 3, 255, 0)
    mask[:20] = -1
    result = client.refine(str(PHOTO), labels=mask, options={"mask_prompt": "none"})
    assert result.ignore_label == 65535
    assert any("written as 65535" in warning for warning in result.warnings)
    np.testing.assert_array_equal(result.coarse_labels, np.where(mask < 0, 65535, mask))
    assert (result.labels[:20] == 65535).all()
    assert set(np.unique(result.labels[20:])) == {0, 255}
    assert {region.class_id for region in result.regions} == {0, 255}
    assert 0 < result.changed_fraction < 0.2
    assert result.overlay().width > 600


def test_scores_that_look_raw_have_regions_and_a_warning(client):
    """tau_c of 0 is off, for scores below 0 too; that they are scores at all is doubtful."""
    raw = np.log(coarse_scores().astype(np.float32) + 1e-6) - 20
    result = client.refine(PHOTO, logits=raw, options=FAST)
    assert len(result.regions) > 3
    (warning,) = result.warnings
    assert "give activation=softmax" in warning
    again = client.refine(PHOTO, logits=raw, activation="softmax", options=FAST)
    assert again.warnings == ()


def test_labels_beyond_a_byte_come_back(client):
    labels = np.zeros((400, 600), np.int64)
    labels[:100] = 1000
    options = RefineOptions(mask_prompt="none", ignore_label=1000)
    refined = client.refine(PHOTO, logits=coarse_scores(), labels=labels, options=options).labels
    assert (refined[:100] == 1000).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logits": np.zeros(3)}, r"logits must have shape \(C, h, w\), got \(3,\)"),
        ({"logits": np.zeros((3, 4, 4), np.complex64)}, "an array of numbers, got complex64"),
        ({"logits": [[[1.0]]]}, "logits must be a numpy array or a torch tensor, got list"),
        ({"logits": None}, r"give logits, which are class scores \(C, h, w\), or labels"),
        ({"logits": np.zeros((3, 4, 4), object)}, "logits must be an array of numbers, got object"),
        ({"image": None}, "exactly one of image and embedding must be given, got none"),
        ({"image": 5}, "image must be an array, a PIL image, bytes or a path, got int"),
        ({"embedding": 5}, "exactly one of image and embedding must be given, got both"),
        ({"image": None, "embedding": 5}, r"embedding must be what embed\(\) gave, got int"),
        (
            {"image": np.zeros((5, 6, 7), np.uint8)},
            r"image must have shape \(H, W, 3\), .* got \(5, 6, 7\)",
        ),
        ({"outputs": "labels"}, "outputs must be several names, got the text 'labels'"),
        ({"options": {"iou_treshold": 1}}, "parameter 'iou_treshold' is not an option"),
        ({"options": 5}, "options must be RefineOptions or a dict of them, got int"),
        ({"activation": "relu"}, "activation must be one of softmax, sigmoid, none, got 'relu'"),
        (
            {"scores_dtype": "int8"},
            "scores_dtype must be one of auto, .*, got 'int8'",
        ),
        ({"timeout_s": 0}, "timeout_s must be > 0, got 0"),
        ({"timeout_s": "5"}, "timeout_s must be > 0, got '5'"),
        ({"labels": np.zeros(4, np.int32)}, r"labels must have shape \(H, W\), got \(4,\)"),
        ({"outputs": ("label",)}, "outputs must be among labels, coarse_labels, logits, regions"),
        ({"image": np.full((4, 4, 3), -1.0)}, r"image of floats must be in \[0, 1\]"),
        ({"labels": np.full((400, 600), 0.5)}, "labels must be an array of integers, got float64"),
        ({"labels": np.full((400, 600), 2**40)}, "labels must fit int32"),
    ],
)
def test_wrong_arrays_are_refused_before_anything_is_sent(client, arguments, message):
    call = {"image": PHOTO, "logits": coarse_scores(), **arguments}
    with pytest.raises(InvalidRequestError, match=message):
        client.refine(call.pop("image"), **call)


def test_rejected_request_says_why_and_which(client):
    with pytest.raises(RejectedError, match=r"^LOGITS must have 1 to 4096 classes") as caught:
        client.refine(PHOTO, logits=np.zeros((4097, 1, 1)), scores_dtype="float32")
    assert caught.value.model == "sam_refine"
    assert caught.value.request_id in str(caught.value)


def test_deadline_ends_the_call(client):
    with pytest.raises(DeadlineError):
        client.refine(PHOTO, logits=coarse_scores(), timeout_s=0.05)


def test_embedding_refines_as_its_image_does(client, result):
    embedding = client.embed(PHOTO)
    assert embedding.values.shape == (1, 256, 64, 64)
    assert embedding.size_hw == (400, 600)
    refined = client.refine(embedding=embedding, logits=coarse_scores(), options=FAST)
    np.testing.assert_array_equal(refined.labels, result.labels)


def test_health_of_what_works_has_no_problems_and_times_the_canary(client):
    for _ in range(2):
        health = client.health()
        assert (health.problems, health.is_healthy) == ((), True)
        assert health.is_live
        assert health.is_ready
        assert {"sam_image_encoder", "sam_mask_decoder"} <= set(health.models)
        assert set(health.models.values()) == {True}
        assert health.canary_ms > 0


def test_health_without_the_canary_asks_only(client):
    health = client.health(canary=False)
    assert (health.is_healthy, health.canary_ms) == (True, None)


def test_health_that_takes_too_long_says_so(client):
    health = client.health(timeout_s=0.02)
    assert not health.is_healthy
    assert "give it more time" in health.problems[-1]
    assert health.canary_ms is None


def test_health_leaves_the_embeddings_of_others_alone(client, server, grpc_client):
    """However often a monitor asks: the cache has room for some images only."""

    def lookups():
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        with urllib.request.urlopen(url) as metrics:
            lines = metrics.read().decode().splitlines()
        return [line for line in lines if line.startswith("sam_refine_embedding_cache_lookups")]

    before = lookups()
    assert client.health().is_healthy
    assert lookups() == before


def test_info_has_models_and_limits(client):
    info = client.info()
    assert info.version
    assert info.limits == Limits()
    assert info.differences == ()
    models = {model.name: model for model in info.models}
    assert {model.state for model in info.models} == {ModelState.READY}
    encoder = models["sam_image_encoder"]
    assert (encoder.versions, encoder.backend, encoder.instances) == (("1",), "onnxruntime", 1)


def test_info_of_a_server_is_what_its_configs_say(server, repository):
    with RefineClient(f"127.0.0.1:{server.grpc_port}") as client:
        info = client.info(timeout_s=10)
    models = {model.name: model for model in info.models}
    assert list(models) == [model.name for model in MODELS]
    assert info.name == "triton"
    assert info.array_library is ArrayLibrary.NUMPY
    assert (models["sam_refine"].instances, models["sam_refine"].device) == (2, "CPU")
    assert models["sam_image_encoder"].max_batch_size == 8
    assert (models["sam_embed"].backend, models["sam_embed"].instances) == ("ensemble", None)
    config = (repository / "sam_refine/config.pbtxt").read_text(encoding="utf-8")
    assert f'"networks_sha256" value {{ string_value: "{info.networks_sha256}" }}' in config


@pytest.mark.parametrize("method", ["info", "health"])
def test_info_and_health_refuse_a_timeout_that_is_none(client, method):
    with pytest.raises(InvalidRequestError, match="timeout_s must be > 0, got -1"):
        getattr(client, method)(timeout_s=-1)


def test_every_client_gives_the_same_result(result, reference):
    np.testing.assert_array_equal(result.labels, reference.labels)
    np.testing.assert_array_equal(result.coarse_labels, reference.coarse_labels)
    np.testing.assert_allclose(result.logits, reference.logits, atol=1e-4)
    for found, expected in zip(result.regions, reference.regions, strict=True):
        assert (found.class_id, found.box_xyxy, found.kept) == (
            expected.class_id,
            expected.box_xyxy,
            expected.kept,
        )
        assert found.predicted_iou == pytest.approx(expected.predicted_iou, abs=1e-5)
        assert found.score == pytest.approx(expected.score, abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_scores_of_torch_of_any_dtype_are_taken(client, dtype):
    scores = torch.from_numpy(coarse_scores()).to(getattr(torch, dtype)).requires_grad_()
    found = client.refine(PHOTO, logits=scores, options=FAST).labels
    expected = client.refine(
        PHOTO, logits=scores.detach().float().numpy(), options=FAST, scores_dtype="float32"
    ).labels
    assert np.mean(found != expected) < 1e-4


def test_closed_client_says_so(server, repository):
    for client in (
        RefineClient(f"127.0.0.1:{server.grpc_port}"),
        Awaited(f"127.0.0.1:{server.grpc_port}"),
        RefineClient.local(repository),
    ):
        client.refine(PHOTO, logits=coarse_scores(), options=FAST)
        client.close()
        with pytest.raises(UnreachableError, match="the client is closed"):
            client.refine(PHOTO, logits=coarse_scores())
        with pytest.raises(UnreachableError, match="the client is closed"):
            client.health()


def test_cancelled_awaited_call_ends_and_the_client_goes_on(server):
    async def cancel():
        async with AsyncRefineClient(f"127.0.0.1:{server.grpc_port}") as client:
            call = asyncio.create_task(client.refine(PHOTO, logits=coarse_scores()))
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return await client.refine(PHOTO, logits=coarse_scores(), options=FAST)

    assert asyncio.run(cancel()).labels is not None


def test_many_awaited_calls_at_once_each_have_their_own_answer(server):
    async def refine_all():
        async with AsyncRefineClient(f"127.0.0.1:{server.grpc_port}") as client:
            embedding = await client.embed(PHOTO)
            thresholds = (0.0, 0.5, 0.9, 1.0)
            results = await asyncio.gather(
                *(
                    client.refine(
                        embedding=embedding,
                        logits=coarse_scores(),
                        options=RefineOptions(min_region_area=225, iou_threshold=threshold),
                    )
                    for threshold in thresholds
                )
            )
            return [sum(region.kept for region in result.regions) for result in results]

    kept = asyncio.run(refine_all())
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1] == 0


def test_local_without_an_export_says_what_makes_one(tmp_path):
    with pytest.raises(InvalidRequestError, match="is not there: `sam-refine export` makes it"):
        RefineClient.local(tmp_path)


def test_local_beside_an_idle_gpu_is_not_healthy(repository, monkeypatch):
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    with RefineClient.local(repository) as client:
        assert client.health().is_healthy
        monkeypatch.setattr(gpu, "has_gpu", lambda: True)
        (problem,) = client.health().problems
    assert problem.startswith("the networks run on the CPU: there is a GPU, but this onnxruntime ")


def test_readme_example_prints_what_it_says(server, capsys, monkeypatch):
    root = DEMO_DATA.parents[3]
    readme = (root / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(root)
    exec(code.replace("127.0.0.1:8001", f"127.0.0.1:{server.grpc_port}"), {})
    assert f"# {capsys.readouterr().out}" == code.splitlines(keepends=True)[-1]


def test_client_guide_runs(server, capsys, monkeypatch, tmp_path):
    root = DEMO_DATA.parents[3]
    guide = (root / "docs/client.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "cli").symlink_to(root / "cli")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks[:4]:
        exec(block.replace("127.0.0.1:8001", f"127.0.0.1:{server.grpc_port}"), names)
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+% changed, \d+ regions", printed[0])
    files = ["palette.png", "regions.json", "result.npz", "before_after.png", "labels.png"]
    assert printed[1:6] == files
    assert sorted(path.name for path in (tmp_path / "refined").iterdir()) == sorted(files)
    assert names["picture"].size > (600, 400)
    assert re.fullmatch(
        r"<RefineResult: labels 400 x 600, coarse_labels 400 x 600, \d+ of \d+ regions kept, .*>",
        printed[6],
    )
    assert printed[7:] == [f"{i} (400, 600)" for i in range(3)]
    assert "ConnectionOptions(" in blocks[4]  # names certificates that are not here
    exec(blocks[5].replace("127.0.0.1:8001", f"127.0.0.1:{server.grpc_port}"), names)
    assert capsys.readouterr().out == "True\ntriton 4096 classes at most\n"


def test_many_jobs_come_back_in_order_and_one_that_fails_is_named(client):
    jobs = [
        {"image": PHOTO, "logits": coarse_scores(), "options": FAST},
        {"image": PHOTO, "logits": np.zeros((4097, 1, 1), np.float32)},
        {"image": "missing.jpg", "logits": coarse_scores()},
        {"image": PHOTO, "logits": coarse_scores(), "options": FAST},
    ]
    outcomes = list(client.refine_many(jobs, concurrency=2))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
    assert isinstance(outcomes[1].error, RejectedError)
    assert isinstance(outcomes[2].error, FileNotFoundError)
    np.testing.assert_array_equal(outcomes[0].result.labels, outcomes[3].result.labels)


def test_server_started_anew_under_many_jobs_loses_and_doubles_none(repository, tmp_path):
    options = ServerOptions(repository, log_file=tmp_path / "triton.log", **server_ports())
    connection = ConnectionOptions(retries=Retries(attempts=60, longest_wait_s=1))
    jobs = ({"image": PHOTO, "logits": coarse_scores(), "options": FAST} for _ in range(12))
    with ExitStack() as stack, RefineClient(options_url(options), connection=connection) as client:
        server = stack.enter_context(Server(options))
        outcomes = []
        for outcome in client.refine_many(jobs, concurrency=3):
            outcomes.append(outcome)
            if len(outcomes) == 3:
                os.kill(server.process_id, signal.SIGKILL)
                stack.pop_all().close()
                stack.enter_context(Server(options))
    assert [outcome.index for outcome in outcomes] == list(range(12))
    assert [outcome.error for outcome in outcomes] == [None] * 12


def options_url(options):
    return f"127.0.0.1:{options.grpc_port}"


def test_unreachable_server_is_named_as_such_after_some_attempts():
    connection = ConnectionOptions(retries=Retries(attempts=3, first_wait_s=0.2))
    with RefineClient("127.0.0.1:1", connection=connection) as client:
        started = time.monotonic()
        with pytest.raises(UnreachableError, match="is the server running there"):
            client.refine(PHOTO, logits=coarse_scores())
        assert time.monotonic() - started >= 0.3


def test_unreachable_server_is_not_waited_for_beyond_the_deadline():
    waits = Retries(attempts=1000, first_wait_s=10_000, longest_wait_s=10_000)
    connection = ConnectionOptions(retries=waits)
    with (
        RefineClient("127.0.0.1:1", connection=connection) as client,
        pytest.raises((UnreachableError, DeadlineError)),
    ):
        client.refine(PHOTO, logits=coarse_scores(), timeout_s=0.5)


def test_several_addresses_go_on_where_one_does_not_answer(server):
    urls = ["127.0.0.1:1", f"localhost:{server.grpc_port}"]
    with RefineClient(urls) as client:
        for _ in range(4):
            assert client.refine(PHOTO, logits=coarse_scores(), options=FAST).labels is not None
