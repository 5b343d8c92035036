"""Class scores of anything that a network returned, with the right values, or refused."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sam_refine.contract import InvalidRequestError
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.scores import read_scores

SIZE = (40, 60)
RAW = np.random.default_rng(0).normal(size=(3, 10, 15)).astype(np.float32) * 3


def softmax(array, axis=0):
    shares = np.exp(array - array.max(axis, keepdims=True))
    return (shares / shares.sum(axis, keepdims=True)).astype(np.float32)


SCORES = softmax(RAW)
SHARES = (1 / (1 + np.exp(-RAW[0]))).astype(np.float32)
BINARY = np.stack([1 - SHARES, SHARES])
TENSOR = torch.from_numpy(SCORES)


def read(logits, **arguments):
    notes = Notes()
    found = read_scores(logits, notes, **{"size_hw": SIZE, **arguments})
    return found, notes.sentences


# --- Taken -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "tolerance"),
    [
        (SCORES, 0),
        (SCORES.astype(np.float64), 1e-7),
        (SCORES[None], 0),
        (SCORES[None, None], 0),
        (TENSOR, 0),
        (TENSOR.clone().requires_grad_(), 0),
        (TENSOR.half(), 1e-3),
        (TENSOR.bfloat16(), 1e-2),
        (TENSOR.to(torch.float8_e4m3fn), 0.1),
        (TENSOR.to_sparse(), 0),
        (TENSOR.permute(1, 2, 0).contiguous().permute(2, 0, 1), 0),
        ([TENSOR], 0),
        (SimpleNamespace(logits=TENSOR[None], loss=None), 0),
        (SimpleNamespace(seg_logits=SimpleNamespace(data=TENSOR)), 0),
        ({"logits": TENSOR[None], "hidden_states": None}, 0),
        ({"out": TENSOR[None], "aux": TENSOR[None]}, 0),
        (SCORES[:, None], 0),  # nnU-Net's
    ],
)
def test_scores_in_whatever_holds_them_are_taken_and_nothing_said(logits, tolerance):
    found, said = read(logits)
    assert said == ()
    np.testing.assert_allclose(found, SCORES, atol=tolerance)


@pytest.mark.parametrize("given", [RAW, torch.from_numpy(RAW).half()[None]])
def test_activation_makes_scores_of_raw_output(given):
    found, said = read(given, activation="softmax")
    assert said == ()
    np.testing.assert_allclose(found, SCORES, atol=2e-3)
    found, said = read(given, activation="sigmoid")
    assert said == ()
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-RAW)), atol=2e-3)


def test_softmax_makes_nothing_of_classes_that_are_switched_off():
    off = np.concatenate([RAW, np.full((1, 10, 15), -np.inf, np.float32)])
    found, said = read(off, activation="softmax")
    assert said == ()
    np.testing.assert_allclose(found[:3], SCORES, atol=1e-6)
    assert (found[3] == 0).all()


# --- Doubtful --------------------------------------------------------------------------------


def test_square_scores_of_an_image_that_is_not_are_left_as_they_are_and_padding_is_named():
    """Most networks see images stretched to a square, some see them padded."""
    found, (said,) = read(np.repeat(SCORES, 5, axis=2)[:, :10, :10], size_hw=(100, 140))
    assert found.shape == (3, 10, 10)
    assert "padded below or on the right, give logits[:, :8, :10]" in said


@pytest.mark.parametrize(("size", "hint"), [((8, 13), True), ((5, 8), True), ((9, 14), False)])
def test_scores_larger_by_padding_say_how_it_is_cut(size, hint):
    padded = np.pad(SCORES, ((0, 0), (0, 0), (0, 1)), mode="edge") if hint else SCORES
    _, (*_, said) = read(padded, size_hw=size)
    assert said.endswith(f"give logits[:, :{size[0]}, :{size[1]}]") == hint


def test_logarithms_of_a_softmax_are_told_from_other_raw_output():
    _, (said,) = read(np.log(SCORES))
    assert said.endswith("give activation=softmax, of which they are the logarithms")
    _, (said,) = read(np.log(SCORES), activation="sigmoid")
    assert "are logarithms of a softmax" in said


@pytest.mark.parametrize("whole", [100, 255])
def test_shares_times_a_whole_are_said_as_such(whole):
    found, (said,) = read(SCORES * whole)
    assert f"give logits / {whole}" in said
    np.testing.assert_array_equal(found, SCORES * whole)


@pytest.mark.parametrize(
    ("given", "activation"), [(SHARES[None], "sigmoid"), (SCORES * 0.9, "sigmoid"),
                              (SCORES ** 0.5, "softmax")],
)  # fmt: skip
def test_activation_of_what_has_had_one_is_said(given, activation):
    _, said = read(given, activation=activation)
    assert f"activation={activation} makes all scores nearly equal" in said[0]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrix_of_numpy_is_one_channel():
    found, _ = read(np.matrix(SHARES))
    np.testing.assert_allclose(found, BINARY, atol=1e-6)


def test_channels_last_that_alone_have_the_proportions_are_said_where_nothing_else_tells():
    rough = np.random.default_rng(0).random((16, 16, 21)).astype(np.float32)
    found, (said,) = read(rough, size_hw=(64, 64), activation="none")
    np.testing.assert_array_equal(found, rough)
    assert "would have its proportions as (h, w, C); if they are that, give logits.tr" in said


def test_trailing_axis_of_1_is_dropped_where_the_classes_are_certain():
    found, said = read(SCORES[..., None])
    np.testing.assert_array_equal(found, SCORES)
    assert said == ()


def test_channels_last_of_a_square_network_are_transposed():
    square = softmax(np.random.default_rng(0).normal(size=(3, 12, 12)).astype(np.float32))
    found, said = read(square.transpose(1, 2, 0))
    assert "sum to 1 over the last axis" in said[0]
    np.testing.assert_array_equal(found, square)


@pytest.mark.parametrize("raw", [RAW, np.log(SCORES), RAW.astype(np.float16), SCORES - 0.5])
def test_scores_below_0_name_activation_and_are_taken(raw):
    found, (said,) = read(raw)
    assert re.match("logits look like raw output, because they go from -.*: give activation=", said)
    np.testing.assert_array_equal(found, raw)


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_scores_whose_sums_are_not_1_name_activation_and_are_taken(factor):
    _, (said,) = read(SCORES * factor)
    assert f"because they sum to {factor:g} over the classes: give activation=softmax" in said


@pytest.mark.parametrize("raw", [RAW, SCORES * 3])
def test_activation_none_says_that_they_are_scores(raw):
    found, said = read(raw, activation="none")
    assert said == ()
    np.testing.assert_array_equal(found, raw)


def test_softmax_of_a_softmax_is_said():
    _, (said,) = read(SCORES, activation="softmax")
    assert "sum to 1 over the classes already" in said
    assert "leave activation out" in said


@pytest.mark.parametrize(
    ("one", "activation"),
    [(SHARES, None), (SHARES[None], None), (SHARES[None, None], None), (SHARES[..., None], None),
     (RAW[:1], "sigmoid"), (torch.from_numpy(RAW[0])[None, None], "sigmoid")],
)  # fmt: skip
def test_one_channel_of_shares_is_two_classes_and_said(one, activation):
    found, said = read(one, activation=activation)
    assert said[-1].startswith("logits of one channel are taken as shares p of class 1")
    np.testing.assert_allclose(found, BINARY, atol=1e-6)


@pytest.mark.parametrize("batch", [False, True])
def test_channels_last_that_sum_to_1_are_transposed_and_said(batch):
    last = SCORES.transpose(1, 2, 0)
    logits = last[None] if batch else last
    found, (said,) = read(logits)
    line = "logits[0].transpose(2, 0, 1)" if batch else "logits.transpose(2, 0, 1)"
    assert said.endswith(f"give {line}")
    np.testing.assert_array_equal(found, SCORES)
    np.testing.assert_array_equal(eval(line), SCORES)


def test_turned_batch_of_one_is_refused_with_the_line_for_a_batch():
    logits = SCORES.transpose(0, 2, 1)[None]
    with pytest.raises(InvalidRequestError) as caught:
        read(logits)
    assert str(caught.value).endswith("give logits[0].transpose(0, 2, 1)")


def test_shares_of_an_image_that_is_classified_are_said_to_be_no_map():
    found, (said,) = read(np.array([[0.2, 0.3, 0.5]], np.float32)[..., None, None])
    assert "logits have one place, (3, 1, 1): all of the coarse map is one class" in said
    assert found.shape == (3, 1, 1)
    assert read(found, size_hw=(1, 1))[1] == (), "which is all that an image of one pixel can have"


@pytest.mark.parametrize("high", [1, 255])
def test_one_hot_scores_of_each_pixel_are_said_to_change_nothing(high):
    classes = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 3
    one_hot = (np.arange(3)[:, None, None] == classes).astype(np.float32) * high
    _, said = read(one_hot)
    assert any("logits are one-hot: no class can win a pixel where its score is 0" in each
               for each in said)  # fmt: skip
    assert read(one_hot[:, ::4, ::4] / high)[1] == (), "between fewer places scores are soft"


def test_padding_that_scores_larger_than_the_image_have_is_said_once():
    _, said = read(np.full((3, 64, 64), 1 / 3, np.float32))
    assert sum("padded" in each for each in said) == 1
    assert said[-1].endswith("give logits[:, :40, :60]")


def test_url_is_no_path():
    with pytest.raises(InvalidRequestError, match="logits must be a path, got the URL 'https://a"):
        read("https://a.b/scores.npy")


def test_channels_last_that_can_be_nothing_else_are_transposed_and_said():
    found, (said,) = read(RAW.transpose(1, 2, 0), activation="softmax")
    assert "because only so they have the proportions of the image, (40, 60)" in said
    np.testing.assert_allclose(found, SCORES, atol=1e-6)


def test_channels_last_of_full_size_are_transposed():
    large = np.repeat(np.repeat(SCORES, 4, 1), 4, 2)
    found, said = read(large.transpose(1, 2, 0))
    assert len(said) == 1
    np.testing.assert_array_equal(found, large)


def test_smooth_planes_say_that_channels_may_come_last():
    """128 x 128 of 150 classes for an image of 480 x 640: the proportions fit either way."""
    planes = np.random.default_rng(1).normal(size=(150, 1, 1)).astype(np.float32)
    smooth = planes + 0.01 * np.random.default_rng(2).normal(size=(150, 128, 128))
    arguments = {"size_hw": (480, 640), "activation": "softmax"}
    found, said = read(smooth, **arguments)
    assert found.shape == (150, 128, 128)
    assert not any("last axis" in each for each in said)
    _, (said,) = read(smooth.transpose(1, 2, 0), **arguments)
    assert "change more along the last axis" in said


@pytest.mark.parametrize(
    ("size", "expected"),
    [((10, 15), SCORES), ((5, 15), SCORES.reshape(3, 5, 2, 15).mean(2)),
     ((5, 5), SCORES.reshape(3, 5, 2, 5, 3).mean((2, 4)))],
)  # fmt: skip
def test_scores_larger_than_the_image_are_shrunk_by_area_and_said(size, expected):
    found, said = read(SCORES, size_hw=size)
    large = f"logits of 10 x 15 are larger than the image of {size[0]} x {size[1]}"
    sentences = [] if size == (10, 15) else [f"{large}: shrunk to it by area"]
    assert [each for each in said if "shrunk" in each] == sentences
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_other_proportions_are_said():
    _, (said,) = read(SCORES[:, :3])
    assert "other proportions than the image of (40, 60)" in said


@pytest.mark.parametrize("last", [False, True])
def test_scores_of_a_nearly_square_image_that_would_fit_turned_are_said(last):
    turned = softmax(np.random.default_rng(0).normal(size=(3, 125, 120)).astype(np.float32))
    given, axes = (turned.transpose(1, 2, 0), "2, 1, 0") if last else (turned, "0, 2, 1")
    found, said = read(given, size_hw=(480, 500))
    assert said[-1].endswith(f"if they are that, give logits.transpose({axes})")
    np.testing.assert_array_equal(found, turned)
    assert read(turned.transpose(0, 2, 1), size_hw=(480, 500))[1] == ()


# --- Refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "arguments", "message"),
    [
        (RAW[:1], {}, "raw output of a binary head needs activation=sigmoid"),
        (RAW[:1], {"activation": "softmax"}, "for a binary head give activation=sigmoid"),
        (RAW.argmax(0), {}, "these are labels; give it as labels"),
        (RAW.argmax(0)[None], {}, "got one plane of int64, (1, 10, 15): these are labels"),
        (RAW.argmax(0)[None, None].astype(np.uint8), {}, "these are labels; give it as labels"),
        (RAW[0] > 0, {}, "got one plane of bool, (10, 15): these are labels"),
        (RAW.argmax(0)[None] * 1.0, {}, "these are labels; give labels=logits.astype(int)"),
        (RAW > 0, {}, "one mask for each class; give labels=logits.argmax(0)"),
        ((SCORES * 255).astype(np.uint8), {}, "give logits.astype(np.float32) / 255"),
        ((SCORES * 100).round().astype(np.uint8), {}, "give logits.astype(np.float32) / 100"),
        ((SCORES * 65535).astype(np.uint16), {}, "give logits.astype(np.float32) / 65535"),
        ((RAW * 9).astype(np.int8), {}, "give logits.astype(np.float32), times its scale if it is"),
        (SHARES * 255, {}, "shares times 255 need logits / 255; raw output of a binary head needs"),
        (softmax(RAW, 1), {}, "sum to 1 over axis 1, which is no axis of classes: was a softmax"),
        (softmax(RAW, 2), {}, "sum to 1 over axis 2, which is no axis of classes: was a softmax"),
        (SCORES.reshape(3, -1), {}, "if h and w are one axis, give logits.reshape(C, h, w)"),
        (SCORES.reshape(3, -1).T, {}, "or of (h * w, C) logits.T.reshape(C, h, w)"),
        (RAW * 1j, {}, "logits must be an array of numbers, got complex64"),
        (RAW.astype(object), {}, "logits must be an array of numbers, got object"),
        (np.stack([RAW, RAW * 1e300]), {}, "must fit float32, got values beyond 3.4e+38"),
        (np.full_like(RAW, np.nan), {}, "logits must be finite, got 450 values"),
        (np.where(RAW < 0, -np.inf, RAW), {}, "give activation=softmax, which makes 0 of -inf"),
        (np.full_like(RAW, -np.inf), {"activation": "softmax"}, "logits must be finite, got 450"),
        (RAW[:, :0], {}, "logits must have values, got the shape (3, 0, 15)"),
        (RAW[:0], {}, "logits must have values"),
        (np.stack([RAW, RAW]), {}, "got a batch of 2, (2, 3, 10, 15); give each its own call"),
        (RAW[0, 0], {}, "logits must have shape (C, h, w), got (15,)"),
        (RAW.transpose(0, 2, 1), {}, "like (C, w, h); give logits.transpose(0, 2, 1)"),
        (RAW, {"size_hw": (15, 10)}, "like (C, w, h); give logits.transpose(0, 2, 1)"),
        (np.zeros((2, 25, 24)), {"size_hw": (24, 25)}, "give logits.transpose(0, 2, 1)"),
        (np.zeros((2, 140, 120)), {"size_hw": (480, 560)}, "give logits.transpose(0, 2, 1)"),
        (np.full((25, 24, 2), 0.5), {"size_hw": (24, 25)}, "give logits.transpose(2, 1, 0)"),
        (np.moveaxis(RAW > 0, 0, -1), {}, "one mask for each class; give labels=logits.argmax(-1)"),
        (RAW[:, None], {}, "if these are 3 classes, as nnU-Net saves them, give logits[:, 0]"),
        (np.stack([SCORES] * 4, 1), {}, "a volume of 4 slices, (3, 4, 10, 15), as nnU-Net saves"),
        (RAW[0, :4].T[None], {"size_hw": (90, 60)}, "if these are a network's queries and classes"),
        ({"pred_logits": RAW, "pred_masks": RAW}, {}, "got queries; make a map of them, and give"),
        (SimpleNamespace(logits=RAW, pred_boxes=RAW), {}, "got queries; make a map of them"),
        ([{"label": "cup", "mask": RAW[0] > 0}], {}, "masks of a pipeline; give them as labels"),
        (np.zeros((10, 15, 9), np.float32), {}, "like (h, w, C); give logits.transpose(2, 0, 1)"),
        ([[[1.0]]], {}, "must be a numpy array or a torch tensor, got list; give np.asarray"),
        ([RAW, RAW], {}, "got list; of several give one: logits[0]"),
        ([*RAW], {}, "got list; of planes make one array: np.stack(logits)"),
        ([{"sem_seg": RAW}], {}, 'got list; give the array in it: logits[0]["..."]'),
        (torch.empty(3, 4, 5, device="meta"), {}, "a tensor that numpy can have, got torch"),
        (io.BytesIO(b""), {}, "of the content of a file give logits=np.load(...), or its path"),
        ({"scores": RAW}, {}, 'got a dict of scores; give the one that has the class scores'),
        (SimpleNamespace(masks_queries_logits=RAW), {}, "post_process_semantic_segmentation"),
        (RAW, {"activation": "relu"}, "activation must be one of softmax, sigmoid, none"),
    ],
)  # fmt: skip
def test_scores_that_are_wrong_are_refused_with_what_to_do(logits, arguments, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read(logits, **arguments)
