"""The other models of the repository, called on behalf of a request (BLS)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import triton_python_backend_utils as pb_utils

from sam_refine.algorithm.judging.judge import LearnedJudge
from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import (
    SAM_EMBED,
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    SAM_MASK_JUDGE,
    Limits,
    ModelSpec,
)
from sam_refine.contract.serving.supervised import end_this_process, is_supervised
from sam_refine.contract.serving.turns import is_busy
from sam_refine.contract.serving.unavailable import has_no_room, is_healing
from sam_refine.numerics.arrays import Array, Float32, UInt8
from sam_refine.service.embedding_cache import EmbeddingCache, content_key, open_server_directory
from sam_refine.triton.devices import Arrays, NumpyArrays
from sam_refine.triton.metrics import RefineMetrics
from sam_refine.triton.requests import CancelledError, ModelCallError, UnavailableError

LONGEST_WAIT_S: Final = 30.0
"""How long a call waits for a model that has a full queue, or that a supervisor loads anew."""
_POLL_S: Final = 0.1


def call_model(
    request: Any, model: ModelSpec, inputs: Mapping[str, Array], outputs: list[str], arrays: Arrays
) -> list[Array]:
    """Call another model on behalf of `request` (BLS) and return the named outputs.

    A callee that is busy is waited for and called again; so is one that is being healed, where
    somebody heals it.

    Where an answer is that to another call, this process ends, if somebody replaces it: so would
    those to come be.

    Raises `CancelledError` where the caller has gone: the callee would not notice by itself.
    Raises `UnavailableError` where the callee has no room, or is not back in time, and
    `ModelCallError` where it fails.
    """
    give_up_s = time.monotonic() + LONGEST_WAIT_S
    while True:
        if request.is_cancelled():
            raise CancelledError
        response = pb_utils.InferenceRequest(
            request_id=request.request_id(),
            trace=request.trace(),
            model_name=model.name,
            inputs=[arrays.write(name, array) for name, array in inputs.items()],
            requested_output_names=outputs,
            preferred_memory=arrays.memory,
        ).exec()
        if not response.has_error():
            tensors = [pb_utils.get_output_tensor_by_name(response, name) for name in outputs]
            if any(tensor is None for tensor in tensors):
                end_this_process(f"{model.name} answered with the outputs of another model")
                raise UnavailableError(f"{model.name}: the answer was that to another call")
            return [arrays.read(tensor) for tensor in tensors]
        text = response.error().message()
        message = f"{model.name}: {text}"
        if has_no_room(text):
            raise UnavailableError(message)
        if not (is_busy(text) or is_healing(text)):
            raise ModelCallError(message)
        is_hopeless = is_healing(text) and not is_supervised()
        if is_hopeless or time.monotonic() > give_up_s:
            raise UnavailableError(message)
        time.sleep(_POLL_S)


class ImageEmbedder:
    """SAM's embedding of an image: from the cache, else from `sam_embed`."""

    def __init__(self, args: Mapping[str, str], limits: Limits, metrics: RefineMetrics) -> None:
        """With `initialize`'s arguments. Raises `OSError` where there can be no cache."""
        self._directory = open_server_directory()
        self._cache = EmbeddingCache(self._directory, limits.max_cached_embeddings)
        self._allows_names = bool(limits.allow_image_ids)
        self._encoder = Path(args["model_repository"]).parent / SAM_IMAGE_ENCODER.name
        self._metrics = metrics
        metrics.stored(len(self._cache))

    def __call__(self, request: Any, image: UInt8, image_id: str | None) -> Float32:
        """The embedding (1, 256, 64, 64) of an image (H, W, 3); raises as `call_model` does."""
        name = image_id if self._allows_names else None
        key = content_key(image, name, self._encoder_version())
        embedding = self._cache.get(key)
        self._metrics.looked_up(hit=embedding is not None)
        if embedding is None:
            (embedding,) = call_model(
                request, SAM_EMBED, {"IMAGE": image}, ["EMBEDDING"], NumpyArrays()
            )
            self._cache.put(key, embedding)
            self._metrics.stored(len(self._cache))
        return embedding

    def close(self) -> None:
        """Remove what the cache has stored."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _encoder_version(self) -> str:
        """Another encoder put in its place while the server runs makes other embeddings."""
        versions = sorted(self._encoder.glob("*/model.onnx"))
        return repr([(str(path), path.stat().st_mtime_ns) for path in versions])


def judge_of(request: Any, model_repository: Path) -> LearnedJudge | None:
    """The judge that the repository has, asked on behalf of `request`; None if it has none."""
    if not (model_repository / SAM_MASK_JUDGE.name).is_dir():
        return None

    def infer(mask_features: Float32, change_features: Float32) -> tuple[Float32, Float32]:
        inputs = dict(
            zip(SAM_MASK_JUDGE.input_names, (mask_features, change_features), strict=True)
        )
        outputs = list(SAM_MASK_JUDGE.output_names)
        mask_gains, change_gains = call_model(
            request, SAM_MASK_JUDGE, inputs, outputs, NumpyArrays()
        )
        return mask_gains, change_gains

    return LearnedJudge(infer)


def decode(request: Any, arrays: Arrays, embedding: Array, prompts: Prompts) -> tuple[Array, Array]:
    """SAM's mask decoder: low-res logits (v, m, h_l, w_l) and predicted IoUs (n, m)."""
    inputs = {"image_embedding": embedding, **prompts.decoder_inputs()}
    low_res_logits, ious = call_model(
        request, SAM_MASK_DECODER, inputs, list(SAM_MASK_DECODER.output_names), arrays
    )
    return low_res_logits, ious
