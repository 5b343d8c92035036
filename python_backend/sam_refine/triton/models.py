"""The other models of the repository, called on behalf of a request (BLS)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from sam_refine.numerics.arrays import Array, Float32, UInt8
from sam_refine.service.embedding_cache import EmbeddingCache, content_key, open_server_directory
from sam_refine.triton.devices import Arrays, NumpyArrays
from sam_refine.triton.metrics import RefineMetrics
from sam_refine.triton.requests import CancelledError, ModelCallError


def call_model(
    request: Any, model: ModelSpec, inputs: Mapping[str, Array], outputs: list[str], arrays: Arrays
) -> list[Array]:
    """Call another model on behalf of `request` (BLS) and return the named outputs.

    Raises `CancelledError` where the caller has gone: the callee would not notice by itself.
    Raises `ModelCallError` where the callee fails.
    """
    if request.is_cancelled():
        raise CancelledError
    response = pb_utils.InferenceRequest(
        request_id=request.request_id(),
        model_name=model.name,
        inputs=[arrays.write(name, array) for name, array in inputs.items()],
        requested_output_names=outputs,
        preferred_memory=arrays.memory,
    ).exec()
    if response.has_error():
        raise ModelCallError(f"{model.name}: {response.error().message()}")
    return [arrays.read(pb_utils.get_output_tensor_by_name(response, name)) for name in outputs]


class ImageEmbedder:
    """SAM's embedding of an image: from the cache, else from `sam_embed`."""

    def __init__(self, args: Mapping[str, str], limits: Limits, metrics: RefineMetrics) -> None:
        """With `initialize`'s arguments. Raises `OSError` where there can be no cache."""
        self._directory = open_server_directory()
        self._cache = EmbeddingCache(self._directory, limits.max_cached_embeddings)
        self._encoder = Path(args["model_repository"]).parent / SAM_IMAGE_ENCODER.name
        self._metrics = metrics
        metrics.stored(len(self._cache))

    def __call__(self, request: Any, image: UInt8, image_id: str | None) -> Float32:
        """The embedding (1, 256, 64, 64) of an image (H, W, 3); raises as `call_model` does."""
        key = content_key(image, image_id, self._encoder_version())
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
