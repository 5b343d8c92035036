"""What callers of the server meet: inputs, outputs, refusals."""

from __future__ import annotations

import io
import re
import threading
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image
from tritonclient.utils import InferenceServerException

from sam_refine.contract import SAM_EMBED, SAM_PREPROCESS, SAM_REFINE, STAGES
from support.cases import coarse_scores, photo, upsampled
from support.metrics import scrape
from support.servers import form

pytestmark = pytest.mark.triton

SIZE = (120, 180)
REPORT = ("REGION_CLASSES", "REGION_BOXES", "REGION_SCORES", "REGION_IOUS", "REGION_KEPT")
FAST = {"mask_prompt": "none", "min_region_area": 4}


@pytest.fixture(scope="module")
def image():
    return photo(*SIZE)


@pytest.fixture(scope="module")
def embedding(infer, image):
    return infer({"IMAGE": image}, ["EMBEDDING"], model="sam_embed")["EMBEDDING"]


@pytest.fixture(scope="module")
def good(embedding):
    """A request without its options; the embedding spares the encoder."""
    return {
        "EMBEDDING": embedding,
        "IMAGE_SIZE": np.array(SIZE, np.int64),
        "LOGITS_FP16": coarse_scores(),
    }


@pytest.fixture(scope="module")
def reference(infer, good):
    return infer(good, SAM_REFINE.output_names, FAST)


def png(image, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return np.array([buffer.getvalue()], np.object_)


def test_form_over_http_that_fits_no_usual_stack_is_answered(server):
    """As curl sends it unless told otherwise; a stack has 8 MiB."""
    image = ("IMAGE", "UINT8", [2000, 2000, 3], bytes(2000 * 2000 * 3))
    request = form(server.http_port, SAM_PREPROCESS.name, [image], "CANVAS_SIZE")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def refused(infer, inputs, parameters=None, outputs=("REFINED_LABELS",)):
    """The message of a refusal, after a look that it is one and that the server lives on."""
    with pytest.raises(InferenceServerException) as caught:
        infer(inputs, outputs, parameters)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "Traceback" not in caught.value.message()
    return caught.value.message()


def test_every_output_has_the_contract_s_dtype_and_rank(reference):
    for spec in SAM_REFINE.outputs:
        assert reference[spec.name].dtype == spec.dtype, spec.name
        assert reference[spec.name].ndim == len(spec.shape), spec.name


def test_outputs_agree_with_each_other(reference, good):
    kept = reference["REGION_KEPT"]
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(reference["IOU_PREDICTIONS"], reference["REGION_IOUS"][kept])
    np.testing.assert_array_equal(reference["BOXES"], reference["REGION_BOXES"][kept])
    np.testing.assert_array_equal(kept, reference["REGION_IOUS"] > 0.8)
    for name in ("REFINED_LABELS", "COARSE_LABELS"):
        np.testing.assert_array_equal(reference[name], reference[f"{name}_UINT8"])
    np.testing.assert_array_equal(
        reference["COARSE_LABELS"], upsampled(good["LOGITS_FP16"], *SIZE).argmax(axis=0)
    )
    assert reference["REFINED_LOGITS"].shape == (len(good["LOGITS_FP16"]), *SIZE)
    assert (reference["REFINED_LABELS"] != reference["COARSE_LABELS"]).any()
    assert dict(zip(STAGES, reference["STAGE_TIMES_MS"], strict=True))["decode"] > 0


@pytest.mark.parametrize(
    "outputs", [["REGION_KEPT"], ["REFINED_LABELS_UINT8"], ["BOXES", "IOU_PREDICTIONS"], REPORT]
)
def test_a_subset_of_outputs_is_what_it_is_in_the_whole(infer, good, reference, outputs):
    for name, array in infer(good, outputs, FAST).items():
        np.testing.assert_array_equal(array, reference[name], err_msg=name)


@pytest.mark.parametrize("source", ["IMAGE", "ENCODED_IMAGE"])
def test_image_raw_or_encoded_equals_its_embedding(infer, good, image, reference, source):
    inputs = {
        source: image if source == "IMAGE" else png(image),
        "LOGITS_FP16": good["LOGITS_FP16"],
    }
    outputs = infer(inputs, ["REFINED_LABELS", *REPORT], FAST)
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, reference[name], err_msg=name)


def test_scores_in_single_precision_or_full_size_give_the_same_map(infer, good, reference):
    single = good["LOGITS_FP16"].astype(np.float32)
    without = {name: value for name, value in good.items() if name != "LOGITS_FP16"}
    for scores in (single, upsampled(single, *SIZE)):
        labels = infer({**without, "LOGITS": scores}, ["REFINED_LABELS"], FAST)["REFINED_LABELS"]
        assert np.mean(labels == reference["REFINED_LABELS"]) >= 0.9999


def test_jpeg_is_decoded(infer, good, image):
    inputs = {"ENCODED_IMAGE": png(image, "JPEG"), "LOGITS_FP16": good["LOGITS_FP16"]}
    assert infer(inputs, ["REGION_KEPT"], FAST)["REGION_KEPT"].any()


def test_embed_gives_embedding_and_size(infer, image, embedding):
    outputs = infer({"ENCODED_IMAGE": png(image)}, ["EMBEDDING", "IMAGE_SIZE"], model="sam_embed")
    assert outputs["IMAGE_SIZE"].tolist() == list(SIZE)
    np.testing.assert_array_equal(outputs["EMBEDDING"], embedding)
    assert [spec.dims for spec in SAM_EMBED.outputs] == [(1, 256, 64, 64), (2,)]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "exactly one of IMAGE, ENCODED_IMAGE must be given, got none"),
        (
            {"ENCODED_IMAGE": np.array([b"?"], np.object_)},
            "ENCODED_IMAGE must be a JPEG or PNG file, got 1 bytes that are neither",
        ),
    ],
)
def test_embed_of_no_image_is_refused(infer, inputs, message):
    with pytest.raises(InferenceServerException, match=message) as caught:
        infer(inputs, ["EMBEDDING"], model="sam_embed")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def changed(good, **changes):
    return {k: v for k, v in {**good, **changes}.items() if v is not None}


NAN = np.full((2, 3, 4), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"EMBEDDING": None, "IMAGE_SIZE": None}, "exactly one of IMAGE, ENCODED_IMAGE, EMBEDDING"),
        ({"IMAGE": np.zeros((*SIZE, 3), np.uint8)}, "got IMAGE and EMBEDDING"),
        ({"IMAGE_SIZE": None}, "EMBEDDING needs IMAGE_SIZE"),
        ({"LOGITS_FP16": None}, "exactly one of LOGITS, LOGITS_FP16 must be given, got none"),
        ({"LOGITS": NAN}, "got LOGITS and LOGITS_FP16"),
        ({"LOGITS": NAN, "LOGITS_FP16": None}, "LOGITS must be finite, got 24 values"),
        ({"LOGITS_FP16": np.zeros((2, 121, 180), np.float16)}, "at most as large as the image"),
        ({"LOGITS_FP16": np.zeros((2, 3), np.float16)}, "unexpected shape for input 'LOGITS_FP16'"),
        ({"LOGITS_FP16": np.zeros((1, 3, 4), np.float16)}, "must have at least 2 classes where"),
        ({"LABELS": np.full(SIZE, 99, np.int32)}, r"LABELS must lie in \[0, 6\)"),
        ({"LABELS": np.zeros((3, 4), np.int32)}, "LABELS must have the image's size, 120 x 180"),
    ],
)
def test_input_that_breaks_a_rule_is_refused(infer, good, changes, message):
    assert re.search(message, refused(infer, changed(good, **changes)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"iou": 0.5}, "parameter 'iou' is not an option"),
        ({"iou_threshold": 1.5}, "iou_threshold must be a finite number in [0, 1], got 1.5"),
        ({"mask_prompt": "best"}, "mask_prompt must be one of 'none', 'sam', 'trident'"),
        ({"max_regions": 2}, "regions, at most 2 are accepted"),
    ],
)
def test_option_that_breaks_a_rule_is_refused(infer, good, parameters, message):
    assert message in refused(infer, good, parameters)


def test_image_that_cannot_be_decoded_is_refused(infer, good):
    inputs = {"ENCODED_IMAGE": np.array([b"\xff\xd8\xff broken"], np.object_),
              "LOGITS_FP16": good["LOGITS_FP16"]}  # fmt: skip
    assert "ENCODED_IMAGE must be" in refused(infer, inputs)


@pytest.fixture
def cache_lookups(server):
    """Looks at the metrics: hits and misses of the embedding cache since the last look."""

    def read():
        series = scrape(server.metrics_port)
        name = "sam_refine_embedding_cache_lookups_total"
        return {result: series[f'{name}{{result="{result}"}}'] for result in ("hit", "miss")}

    last = read()

    def look():
        nonlocal last
        before, last = last, read()
        return {result: last[result] - before[result] for result in last}

    return look


def test_same_image_again_is_not_encoded_again(infer, good, cache_lookups):
    image = photo(101, 149)  # as no other test has it
    inputs = {"IMAGE": image, "LOGITS_FP16": good["LOGITS_FP16"]}
    outputs = ["REFINED_LABELS", "REGION_IOUS"]
    first = infer(inputs, outputs, FAST)
    assert cache_lookups() == {"hit": 0, "miss": 1}
    encoded = {"ENCODED_IMAGE": png(image), "LOGITS_FP16": good["LOGITS_FP16"]}
    again = infer(encoded, outputs, FAST)
    assert cache_lookups() == {"hit": 1, "miss": 0}
    np.testing.assert_array_equal(again["REFINED_LABELS"], first["REFINED_LABELS"])
    np.testing.assert_array_equal(again["REGION_IOUS"], first["REGION_IOUS"])
    changed = image.copy()
    changed[0, 0] ^= 255
    infer({**inputs, "IMAGE": changed}, outputs, FAST)
    assert cache_lookups() == {"hit": 0, "miss": 1}


def test_image_id_is_not_believed_by_default(infer, good, cache_lookups):
    scores, named = good["LOGITS_FP16"], FAST | {"image_id": "camera 1, frame 7"}
    inputs = {"IMAGE": photo(90, 150), "LOGITS_FP16": scores}
    infer(inputs, ["REGION_IOUS"], named)
    infer({**inputs, "IMAGE": np.zeros((90, 150, 3), np.uint8)}, ["REGION_IOUS"], named)
    assert cache_lookups() == {"hit": 0, "miss": 2}
    infer(inputs, ["REGION_IOUS"], named)
    assert cache_lookups() == {"hit": 1, "miss": 0}


def test_request_after_a_refused_one_works(infer, good, reference):
    refused(infer, {})
    labels = infer(good, ["REFINED_LABELS"], FAST)["REFINED_LABELS"]
    np.testing.assert_array_equal(labels, reference["REFINED_LABELS"])


def test_concurrent_requests_get_their_own_answers(infer, good):
    thresholds = [0.0, 0.5, 0.8, 1.0]
    answers = {}

    def call(threshold):
        parameters = {**FAST, "iou_threshold": threshold}
        answers[threshold] = infer(good, ["REGION_IOUS", "REGION_KEPT"], parameters)

    threads = [threading.Thread(target=call, args=(threshold,)) for threshold in thresholds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert set(answers) == set(thresholds)
    for threshold, answer in answers.items():
        np.testing.assert_array_equal(answer["REGION_KEPT"], answer["REGION_IOUS"] > threshold)


def ended_requests(server, model):
    """How many requests to a model have succeeded or failed so far."""
    counts = rf'nv_inference_request_(success|failure){{model="{model}",'
    series = scrape(server.metrics_port).items()
    return sum(value for name, value in series if re.match(counts, name))


def test_deadline_ends_the_work_between_decoder_calls(infer, good, server):
    rows, columns = np.indices(SIZE) // 2 % 2
    cells = (rows & columns).astype(np.int32)  # 1350 regions, and the one around them: 43 calls
    before = {model: ended_requests(server, model) for model in ("sam_refine", "sam_mask_decoder")}
    with pytest.raises(InferenceServerException) as caught:
        infer({**good, "LABELS": cells}, ["REGION_IOUS"], client_timeout=1)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    give_up = time.monotonic() + 60
    while ended_requests(server, "sam_refine") == before["sam_refine"]:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert ended_requests(server, "sam_mask_decoder") - before["sam_mask_decoder"] < 20
