import io

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import (
    InvalidOptionError,
    InvalidRequestError,
    LimitExceededError,
    Limits,
)
from sam_refine.service.request import read_image, read_request

H, W, C = 6, 8, 3
LIMITS = Limits(max_image_pixels=100, max_classes=300, max_regions=50)


def encoded_image(height=H, width=W):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (1, 2, 3)).save(buffer, "PNG")
    return np.array([buffer.getvalue()], np.object_)


def tensors(**changes):
    """A good request; None takes a tensor away."""
    good = {"IMAGE": np.zeros((H, W, 3), np.uint8), "LOGITS": np.ones((C, 3, 4), np.float32)}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def read(given, parameters=None, outputs=("REFINED_LABELS",)):
    return read_request(given, parameters or {}, outputs, LIMITS)


EMBEDDING = np.zeros((1, 256, 64, 64), np.float32)


def with_value(shape, value, dtype=np.float32):
    array = np.zeros(shape, dtype)
    array.flat[-1] = value
    return array


BAD = [
    ({"IMAGE": None}, "exactly one of IMAGE, ENCODED_IMAGE, EMBEDDING must be given, got none"),
    ({"ENCODED_IMAGE": encoded_image()}, "got IMAGE and ENCODED_IMAGE"),
    ({"EMBEDDING": EMBEDDING}, "got IMAGE and EMBEDDING"),
    ({"IMAGE_SIZE": np.array([H, W])}, "IMAGE_SIZE goes with EMBEDDING only, got it with IMAGE"),
    ({"IMAGE": None, "EMBEDDING": EMBEDDING}, "EMBEDDING needs IMAGE_SIZE"),
    (
        {"IMAGE": None, "EMBEDDING": EMBEDDING, "IMAGE_SIZE": np.array([-2, -3])},
        "IMAGE_SIZE must be two positive sizes, got -2, -3",
    ),
    (
        {"IMAGE": None, "EMBEDDING": EMBEDDING, "IMAGE_SIZE": np.array([11, 10])},
        "IMAGE_SIZE must have 1 to 100 pixels, got 11 x 10",
    ),
    (
        {
            "IMAGE": None,
            "EMBEDDING": with_value((1, 256, 64, 64), np.nan),
            "IMAGE_SIZE": np.array([H, W]),
        },
        "EMBEDDING must be finite, got 1 values",
    ),
    ({"IMAGE": np.zeros((0, W, 3), np.uint8)}, "IMAGE must have 1 to 100 pixels, got 0 x 8"),
    ({"IMAGE": np.zeros((11, 10, 3), np.uint8)}, "IMAGE must have 1 to 100 pixels, got 11 x 10"),
    ({"IMAGE": None, "ENCODED_IMAGE": encoded_image(11, 10)}, "ENCODED_IMAGE must have 1 to 100"),
    (
        {"IMAGE": None, "ENCODED_IMAGE": np.array([b"no image"], np.object_)},
        "ENCODED_IMAGE must be a JPEG or PNG file, got 8 bytes that are neither",
    ),
    ({"LOGITS": None}, "exactly one of LOGITS, LOGITS_FP16 must be given, got none"),
    ({"LOGITS_FP16": np.zeros((C, 3, 4), np.float16)}, "got LOGITS and LOGITS_FP16"),
    ({"LOGITS": np.zeros((0, 3, 4), np.float32)}, "LOGITS must have 1 to 300 classes, got 0"),
    ({"LOGITS": np.zeros((301, 3, 4), np.float32)}, "LOGITS must have 1 to 300 classes, got 301"),
    ({"LOGITS": np.zeros((1, 3, 4), np.float32)}, r"of one class make two: \(1 - p, p\)"),
    (
        {"LOGITS": np.zeros((C, H + 1, W), np.float32)},
        "LOGITS must be at most as large as the image, 6 x 8, and not empty, got 7 x 8",
    ),
    ({"LOGITS": np.zeros((C, H, W + 1), np.float32)}, "got 6 x 9"),
    ({"LOGITS": np.zeros((C, 0, 4), np.float32)}, "and not empty, got 0 x 4"),
    ({"LOGITS": with_value((C, 3, 4), -2e30)}, r"LOGITS must lie within \+-1e\+30"),
    ({"LOGITS": with_value((C, 3, 4), np.nan)}, "LOGITS must be finite, got 1 values"),
    ({"LOGITS": with_value((C, 3, 4), -np.inf)}, "LOGITS must be finite, got 1 values"),
    (
        {"LOGITS": None, "LOGITS_FP16": with_value((C, 3, 4), np.inf, np.float16)},
        "LOGITS_FP16 must be finite",
    ),
    (
        {"LABELS": np.zeros((H, W - 1), np.int32)},
        "LABELS must have the image's size, 6 x 8, got 6 x 7",
    ),
    (
        {"LABELS": with_value((H, W), C, np.int32)},
        r"LABELS must lie in \[0, 3\) or be ignore_label, got 3 \(1 pixels",
    ),
    ({"LABELS": with_value((H, W), -1, np.int32)}, "ignore_label, got -1"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_read_request_that_breaks_a_rule_is_refused(changes, message):
    with pytest.raises(InvalidRequestError, match=message):
        read(tensors(**changes))


def test_read_request_of_one_class_is_taken_with_labels():
    given = tensors(LOGITS=np.zeros((1, 3, 4), np.float32), LABELS=np.zeros((H, W), np.int32))
    assert len(read(given).scores) == 1


@pytest.mark.parametrize(
    ("changes", "parameters", "kind"),
    [
        ({"IMAGE": None}, {}, InvalidRequestError),
        ({"LABELS": with_value((H, W), C, np.int32)}, {}, InvalidRequestError),
        ({}, {"iou": 0.5}, InvalidOptionError),
        ({}, {"iou_threshold": 7}, InvalidOptionError),
        ({}, {"image_id": ""}, InvalidOptionError),
        ({}, {"ignore_label": 256}, InvalidOptionError),
        ({"IMAGE": np.zeros((11, 10, 3), np.uint8)}, {}, LimitExceededError),
        ({"IMAGE": None, "ENCODED_IMAGE": encoded_image(11, 10)}, {}, LimitExceededError),
        ({"LOGITS": np.zeros((301, 3, 4), np.float32)}, {}, LimitExceededError),
    ],
)
def test_read_request_says_what_kind_of_rule_is_broken(changes, parameters, kind):
    with pytest.raises(InvalidRequestError) as caught:
        read(tensors(**changes), parameters, ["COARSE_LABELS_UINT8"])
    assert type(caught.value) is kind


def test_read_request_image_id_is_kept_beside_the_options():
    asked = read(tensors(), {"image_id": "frame 7", "iou_threshold": 0.5})
    assert asked.image_id == "frame 7"
    assert asked.options.iou_threshold == 0.5
    assert read(tensors()).image_id is None


@pytest.mark.parametrize("image_id", ["", "x" * 257, 7, True])
def test_read_request_image_id_that_is_no_short_text_is_refused(image_id):
    with pytest.raises(InvalidRequestError, match="image_id must be a text of 1 to 256 characters"):
        read(tensors(), {"image_id": image_id})


def test_read_request_image_id_with_an_embedding_is_refused():
    given = tensors(IMAGE=None, EMBEDDING=EMBEDDING, IMAGE_SIZE=np.array([H, W]))
    with pytest.raises(InvalidRequestError, match="image_id goes with an image, got it with EMB"):
        read(given, {"image_id": "frame 7"})


def test_read_request_names_an_unknown_parameter():
    with pytest.raises(InvalidRequestError, match="'iou' is not an option"):
        read(tensors(), {"iou": 0.5})


def test_read_request_takes_the_lower_limit_of_regions():
    assert read(tensors()).max_regions == 50
    assert read(tensors(), {"max_regions": 20}).max_regions == 20
    assert read(tensors(), {"max_regions": 70}).max_regions == 50


def test_read_request_accepts_labels_that_are_ignored():
    labels = with_value((H, W), 255, np.int32)
    request = read(tensors(LABELS=labels), {"ignore_label": 255})
    np.testing.assert_array_equal(request.labels, labels)


def test_read_request_with_embedding_has_no_image():
    request = read(tensors(IMAGE=None, EMBEDDING=EMBEDDING, IMAGE_SIZE=np.array([H, W])))
    assert request.image is None
    assert request.embedding is EMBEDDING
    assert request.scores.size_image == (H, W)


def test_read_request_half_precision_scores_become_float32_planes():
    request = read(tensors(LOGITS=None, LOGITS_FP16=np.full((C, 3, 4), 0.25, np.float16)))
    assert request.scores.plane(0).dtype == np.float32
    assert request.scores.plane(0).shape == (H, W)


@pytest.mark.parametrize("name", ["REFINED_LABELS_UINT8", "COARSE_LABELS_UINT8"])
def test_read_request_refuses_bytes_for_labels_that_do_not_fit(name):
    with pytest.raises(InvalidRequestError, match=f"{name} needs at most 256 classes, got 257"):
        read(tensors(LOGITS=np.ones((257, 3, 4), np.float32)), outputs=[name])
    with pytest.raises(InvalidRequestError, match=r"needs an ignore_label in \[0, 255\], got 256"):
        read(tensors(), {"ignore_label": 256}, outputs=[name])


def test_read_request_refuses_refined_logits_beyond_one_message():
    limits = Limits(max_image_pixels=10**8)
    given = tensors(
        IMAGE=None, EMBEDDING=EMBEDDING, IMAGE_SIZE=np.array([8192, 8192]),
        LOGITS=np.ones((7, 3, 4), np.float32),
    )  # fmt: skip
    with pytest.raises(
        LimitExceededError, match="REFINED_LOGITS and COARSE_LABELS must fit one message"
    ):
        read_request(given, {}, ["REFINED_LOGITS", "COARSE_LABELS"], limits)
    assert read_request(given, {}, ["REFINED_LABELS"], limits).scores.size_image == (8192, 8192)


def test_read_image_decodes_or_passes_through():
    image = np.zeros((H, W, 3), np.uint8)
    assert read_image({"IMAGE": image}, LIMITS) is image
    assert read_image({"ENCODED_IMAGE": encoded_image()}, LIMITS).tolist()[0][0] == [1, 2, 3]
    with pytest.raises(InvalidRequestError, match="exactly one of IMAGE, ENCODED_IMAGE must"):
        read_image({}, LIMITS)


def test_read_request_refuses_more_scores_on_the_grid_than_the_limit():
    limits = Limits(max_grid_scores=C * 3 * 4)
    assert read_request(tensors(), {}, [], limits).scores.size_image == (H, W)
    with pytest.raises(LimitExceededError, match="at most 36, got 3 x 6 x 8"):
        read_request(tensors(), {"downsample_ratio": 1}, [], limits)
