"""What every Python model of this repository needs of Triton's stub.

The only module, beside the models themselves, that is imported inside a stub alone: it needs
`triton_python_backend_utils`, which Triton brings.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from sam_refine.arrays import Array
from sam_refine.contract import (
    SAM_EMBED,
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    ArrayLibrary,
    InvalidRequestError,
    Limits,
    ModelSpec,
    Tensors,
)
from sam_refine.embedding_cache import EmbeddingCache, content_key, open_server_directory
from sam_refine.preprocess import UInt8
from sam_refine.prompts import Prompts
from sam_refine.resize import Float32

Respond = Callable[[Any], Tensors]


class CancelledError(Exception):
    """The caller has gone; the rest of the work is not wanted."""


class ModelCallError(Exception):
    """A model called by BLS answered with an error."""


def read_parameters(args: Mapping[str, str]) -> dict[str, str]:
    """The config's parameters out of `initialize`'s arguments.

    Raises `RuntimeError` where this stub cannot work.
    """
    if int(np.__version__.split(".")[0]) >= 2:
        raise RuntimeError(
            "Triton's Python stub silently corrupts tensors with numpy 2; install numpy<2, "
            f"this is numpy {np.__version__}"
        )
    parameters = json.loads(args["model_config"]).get("parameters", {})
    return {name: value["string_value"] for name, value in parameters.items()}


def respond_to(requests: Iterable[Any], respond: Respond) -> list[Any]:
    """One response for each request, whatever `respond` raises; no traceback reaches a caller."""
    return [_answer_one(request, respond) for request in requests]


def _answer_one(request: Any, respond: Respond) -> Any:
    try:
        outputs = respond(request)
        return pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in outputs.items()])
    except InvalidRequestError as error:
        return _error(str(error), pb_utils.TritonError.INVALID_ARG)
    except CancelledError:
        return _error("the request was cancelled", pb_utils.TritonError.CANCELLED)
    except ModelCallError as error:
        return _error(str(error), pb_utils.TritonError.INTERNAL)
    except MemoryError:
        return _error("not enough memory for this request", pb_utils.TritonError.UNAVAILABLE)
    except Exception:  # the outer edge: anything else is this program's fault
        pb_utils.Logger.log_error(traceback.format_exc())
        return _error("internal error; the server's log has it", pb_utils.TritonError.INTERNAL)


def _error(text: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))


def input_tensors(request: Any, model: ModelSpec) -> Tensors:
    """The inputs that the request has, by name."""
    tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in model.input_names}
    return {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}


def request_parameters(request: Any) -> dict[str, object]:
    """The request's parameters by name."""
    try:
        parameters: dict[str, object] = json.loads(request.parameters() or "{}")
    except ValueError as error:  # what is no UTF-8, or no JSON because of it
        raise InvalidRequestError(
            f"the request's parameters must be UTF-8 text: {error}"
        ) from error
    return parameters


class NumpyArrays:
    """Arrays of numpy, on the CPU."""

    def __init__(self) -> None:
        # where callees shall put their outputs: those on a GPU cannot be read by numpy
        self.memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)

    def place(self, array: npt.NDArray[Any]) -> Array:
        """What a caller sent, where it is computed with."""
        return array

    def read(self, tensor: Any) -> Array:
        """A callee's output."""
        return tensor.as_numpy()

    def write(self, name: str, array: Array) -> Any:
        """A callee's input."""
        return pb_utils.Tensor(name, array)


class TorchArrays:
    """Tensors of torch, on the GPU if torch sees one; Triton's own memory is read in place."""

    def __init__(self) -> None:
        """Raises `ImportError` where the stub's environment has no torch."""
        import torch

        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self._device.type == "cuda"
        self.memory = pb_utils.PreferredMemory(
            pb_utils.TRITONSERVER_MEMORY_GPU if on_gpu else pb_utils.TRITONSERVER_MEMORY_CPU
        )

    def place(self, array: npt.NDArray[Any]) -> Array:
        """What a caller sent, where it is computed with."""
        return self._torch.from_numpy(array).to(self._device)

    def read(self, tensor: Any) -> Array:
        """A callee's output."""
        return self._torch.utils.dlpack.from_dlpack(tensor.to_dlpack()).to(self._device)

    def write(self, name: str, array: Array) -> Any:
        """A callee's input; small ones are numpy's."""
        if isinstance(array, np.ndarray):
            return pb_utils.Tensor(name, array)
        return pb_utils.Tensor.from_dlpack(name, array.contiguous())


Arrays = NumpyArrays | TorchArrays


def arrays_of(library: ArrayLibrary) -> Arrays:
    """The deployment's choice. Raises `ImportError` where it is not installed."""
    return TorchArrays() if library is ArrayLibrary.TORCH else NumpyArrays()


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

    def __init__(self, args: Mapping[str, str], limits: Limits) -> None:
        """With `initialize`'s arguments. Raises `OSError` where there can be no cache."""
        self._directory = open_server_directory()
        self._cache = EmbeddingCache(self._directory, limits.max_cached_embeddings)
        self._encoder = Path(args["model_repository"]).parent / SAM_IMAGE_ENCODER.name
        self._family = pb_utils.MetricFamily(
            name="sam_refine_embedding_cache_lookups_total",
            description="Image embeddings looked up in the cache, by result",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        self._lookups = {
            result: self._family.Metric(labels={"result": result}) for result in ("hit", "miss")
        }

    def __call__(self, request: Any, image: UInt8, image_id: str | None) -> Float32:
        """The embedding (1, 256, 64, 64) of an image (H, W, 3); raises as `call_model` does."""
        key = content_key(image, image_id, self._encoder_version())
        embedding = self._cache.get(key)
        self._lookups["miss" if embedding is None else "hit"].increment(1)
        if embedding is None:
            (embedding,) = call_model(
                request, SAM_EMBED, {"IMAGE": image}, ["EMBEDDING"], NumpyArrays()
            )
            self._cache.put(key, embedding)
        return embedding

    def close(self) -> None:
        """Remove what the cache has stored."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _encoder_version(self) -> str:
        """Another encoder put in its place while the server runs makes other embeddings."""
        versions = sorted(self._encoder.glob("*/model.onnx"))
        return repr([(str(path), path.stat().st_mtime_ns) for path in versions])


def decode(request: Any, arrays: Arrays, embedding: Array, prompts: Prompts) -> tuple[Array, Array]:
    """SAM's mask decoder: low-res logits (v, 1, h_l, w_l) and predicted IoUs (n, 1)."""
    inputs = {"image_embedding": embedding, **prompts.decoder_inputs()}
    low_res_logits, ious = call_model(
        request, SAM_MASK_DECODER, inputs, list(SAM_MASK_DECODER.output_names), arrays
    )
    return low_res_logits, ious
