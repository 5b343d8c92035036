"""The other models, called on behalf of a request."""

import numpy as np
import pytest

from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import SAM_EMBED, SAM_MASK_DECODER, Limits, MaskChoice, MaskPrompt
from sam_refine.triton.devices import NumpyArrays
from sam_refine.triton.metrics import EMBEDDINGS, LOOKUPS, RefineMetrics
from sam_refine.triton.models import ImageEmbedder, call_model, decode
from sam_refine.triton.requests import CancelledError, ModelCallError
from support.fake_stub import (
    SERIES,
    TRACE,
    InferenceRequest,
    InferenceResponse,
    Request,
    Tensor,
    TritonError,
)

IMAGE = np.zeros((4, 5, 3), np.uint8)
EMBEDDING = np.full((1, 256, 64, 64), 0.5, np.float32)


@pytest.fixture
def calls():
    """The calls by BLS; `sam_embed` and the decoder answer with what is to be expected of them."""
    seen = []

    def answered(model, *arrays):
        def answer(call):
            seen.append(call)
            named = zip(model.output_names, arrays, strict=True)
            return InferenceResponse([Tensor(*output) for output in named])

        return answer

    masks, ious = np.zeros((1, 1, 8, 8), np.float32), np.array([[0.9], [0.1]], np.float32)
    InferenceRequest.callees["sam_embed"] = answered(SAM_EMBED, EMBEDDING, np.array([4, 5]))
    InferenceRequest.callees["sam_mask_decoder"] = answered(SAM_MASK_DECODER, masks, ious)
    return seen


@pytest.fixture
def embedder(tmp_path, monkeypatch, calls):
    monkeypatch.setattr("sam_refine.triton.models.open_server_directory", lambda: tmp_path)
    return embedder_of(tmp_path, allow_image_ids=0)


def embedder_of(directory, **limits):
    args = {"model_repository": str(directory / "models" / "sam_refine")}
    return ImageEmbedder(args, Limits(max_cached_embeddings=2, **limits), RefineMetrics())


def test_call_carries_the_request_s_id_and_asks_for_the_outputs_named(calls):
    (embedding,) = call_model(Request(), SAM_EMBED, {"IMAGE": IMAGE}, ["EMBEDDING"], NumpyArrays())
    assert embedding is EMBEDDING
    (call,) = calls
    assert (call.request_id, call.model_name) == ("id", "sam_embed")
    assert call.trace is TRACE
    assert call.requested_output_names == ["EMBEDDING"]
    assert call.preferred_memory.kind == "cpu"
    assert [tensor.name() for tensor in call.inputs] == ["IMAGE"]


def test_call_for_a_caller_who_has_gone_is_not_made(calls):
    with pytest.raises(CancelledError):
        call_model(
            Request(cancelled=True), SAM_EMBED, {"IMAGE": IMAGE}, ["EMBEDDING"], NumpyArrays()
        )
    assert calls == []


def test_callee_that_fails_is_named():
    error = InferenceResponse(error=TritonError("out of paint", TritonError.INTERNAL))
    InferenceRequest.callees["sam_embed"] = lambda call: error
    with pytest.raises(ModelCallError, match=r"^sam_embed: out of paint$"):
        call_model(Request(), SAM_EMBED, {"IMAGE": IMAGE}, ["EMBEDDING"], NumpyArrays())


def test_image_is_encoded_once(embedder, calls):
    for _ in range(3):
        np.testing.assert_array_equal(embedder(Request(), IMAGE, None), EMBEDDING)
    assert len(calls) == 1
    assert len(SERIES[LOOKUPS.name, (("result", "miss"),)]) == 1
    assert len(SERIES[LOOKUPS.name, (("result", "hit"),)]) == 2


@pytest.mark.parametrize(("allow_image_ids", "encoded"), [(0, 2), (1, 1)])
def test_name_stands_for_the_pixels_where_the_deployment_allows_it(
    embedder, calls, tmp_path, allow_image_ids, encoded
):
    embedder = embedder_of(tmp_path, allow_image_ids=allow_image_ids)
    for image in (IMAGE, IMAGE + np.uint8(1)):
        embedder(Request(), image, "a still")
    assert len(calls) == encoded


def test_embeddings_stored_are_counted_up_to_the_capacity(embedder):
    for value in range(4):
        embedder(Request(), IMAGE + np.uint8(value), None)
    assert SERIES[EMBEDDINGS.name, ()] == [0, 1, 2, 2, 2]


def test_another_encoder_makes_other_embeddings(embedder, calls, tmp_path):
    embedder(Request(), IMAGE, None)
    graph = tmp_path / "models/sam_image_encoder/1/model.onnx"
    graph.parent.mkdir(parents=True)
    graph.touch()
    embedder(Request(), IMAGE, None)
    assert len(calls) == 2


def test_embedding_that_cannot_be_had_is_not_stored(embedder):
    error = InferenceResponse(error=TritonError("no", TritonError.INTERNAL))
    InferenceRequest.callees["sam_embed"] = lambda call: error
    with pytest.raises(ModelCallError):
        embedder(Request(), IMAGE, None)
    assert SERIES[EMBEDDINGS.name, ()] == [0]


def test_close_removes_what_was_stored(embedder, tmp_path):
    embedder(Request(), IMAGE, None)
    embedder.close()
    assert not tmp_path.exists()


def test_decode_gives_the_decoder_its_inputs_by_name(calls):
    prompts = Prompts(
        point_coords=np.zeros((2, 3, 2), np.float32),
        point_labels=np.ones((2, 3), np.float32),
        mask_prompts=np.zeros((1, 1, 256, 256), np.float32),
        mask_index=np.zeros(2, np.int64),
        mask_prompt=MaskPrompt.NONE,
        choice=MaskChoice.SINGLE,
        iou_threshold=0.5,
        low_res_size=(8, 8),
    )
    masks, ious = decode(Request(), NumpyArrays(), EMBEDDING, prompts)
    assert (masks.shape, ious.shape) == ((1, 1, 8, 8), (2, 1))
    (call,) = calls
    assert {tensor.name() for tensor in call.inputs} == set(SAM_MASK_DECODER.input_names)
