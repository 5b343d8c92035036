"""`sam_refine_client` against the real server."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from sam_refine_client import (
    DeadlineError,
    InvalidRequestError,
    RefineClient,
    RefineOptions,
    RejectedError,
    UnreachableError,
)
from support.cases import DEMO_DATA, coarse_scores

pytestmark = pytest.mark.triton

PHOTO = DEMO_DATA / "photo.jpg"
FAST = RefineOptions(mask_prompt="none", min_region_area=225)


@pytest.fixture(scope="module")
def client(server):
    with RefineClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


@pytest.fixture(scope="module")
def result(client):
    return client.refine(
        PHOTO,
        logits=coarse_scores(),
        options=FAST,
        outputs=("labels", "coarse_labels", "logits", "regions"),
    )


def test_result_has_what_was_asked_for(result):
    height, width = result.labels.shape
    assert (width, height) == Image.open(PHOTO).size
    assert result.labels.dtype == np.int32
    assert result.logits.shape == (len(coarse_scores()), height, width)
    assert 0 < np.mean(result.labels != result.coarse_labels) < 0.2
    assert result.stage_times_ms["decode"] > 0


def test_image_id_stands_for_the_pixels(client):
    scores, name = coarse_scores(), "a still of the client's test"
    outputs = ("regions",)
    with Image.open(PHOTO) as photo:
        first = client.refine(photo, logits=scores, options=FAST, outputs=outputs, image_id=name)
        black = Image.new("RGB", photo.size)
    again = client.refine(black, logits=scores, options=FAST, outputs=outputs, image_id=name)
    assert again.regions == first.regions
    unnamed = client.refine(black, logits=scores, options=FAST, outputs=outputs)
    assert unnamed.regions != first.regions


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


def test_labels_beyond_a_byte_come_back(client):
    labels = np.zeros((400, 600), np.int64)
    labels[:100] = 1000
    options = RefineOptions(mask_prompt="none", ignore_label=1000)
    refined = client.refine(PHOTO, logits=coarse_scores(), labels=labels, options=options).labels
    assert (refined[:100] == 1000).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logits": np.zeros((3, 4))}, r"logits must have shape \(C, h, w\), got \(3, 4\)"),
        ({"logits": np.zeros((3, 4, 4), np.complex64)}, "an array of numbers, got complex64"),
        ({"logits": [[[1.0]]]}, "logits must be an array of numbers, got list"),
        ({"image": None}, "image must be an array, a PIL image, bytes or a path, got NoneType"),
        ({"outputs": ("label",)}, "outputs must be among labels, coarse_labels, logits, regions"),
        ({"image": np.zeros((4, 4, 3))}, "image must be uint8, got float64"),
        ({"labels": np.zeros((400, 600))}, "labels must be an array of integers, got float64"),
        ({"labels": np.full((400, 600), 2**40)}, "labels must fit int32"),
    ],
)
def test_wrong_arrays_are_refused_before_anything_is_sent(client, arguments, message):
    call = {"image": PHOTO, "logits": coarse_scores(), **arguments}
    with pytest.raises(InvalidRequestError, match=message):
        client.refine(call.pop("image"), **call)


def test_rejected_request_says_why(client):
    with pytest.raises(RejectedError, match=r"^LOGITS must be at most as large as the image"):
        client.refine(PHOTO, logits=np.zeros((2, 401, 600), np.float32))


def test_deadline_ends_the_call(client):
    with pytest.raises(DeadlineError):
        client.refine(PHOTO, logits=coarse_scores(), timeout_s=0.05)


def test_readme_example_prints_what_it_says(server, capsys, monkeypatch):
    root = DEMO_DATA.parents[2]
    readme = (root / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(root)
    exec(code.replace("127.0.0.1:8001", f"127.0.0.1:{server.grpc_port}"), {})
    assert f"# {capsys.readouterr().out}" == code.splitlines(keepends=True)[-1]


def test_unreachable_server_is_named_as_such():
    with RefineClient("127.0.0.1:1") as client, pytest.raises(UnreachableError):
        client.refine(PHOTO, logits=coarse_scores(), timeout_s=10)
