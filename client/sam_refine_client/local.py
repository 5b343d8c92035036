"""The server's work in this process: ONNX Runtime instead of Triton, the same library otherwise.

Needs the extra `local`. No other module of the client knows more of `sam_refine` than its contract.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from sam_refine.answer import answer
from sam_refine.contract import (
    SAM_EMBED,
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    ArrayLibrary,
    InvalidRequestError,
    Limits,
)
from sam_refine.embedding_cache import EmbeddingCache, content_key
from sam_refine.preprocess import UInt8, to_canvas
from sam_refine.prompts import Prompts
from sam_refine.request import read_image
from sam_refine.resize import Float32
from sam_refine_client.errors import RefineError, RejectedError, UnreachableError
from sam_refine_client.health import Readiness
from sam_refine_client.info import ModelInfo, ModelState, ServerInfo
from sam_refine_client.steps import Steps, Work
from sam_refine_client.transport import Call, Tensors

_PROVIDERS: Final = ("CUDAExecutionProvider", "CPUExecutionProvider")
_LOADED_BEFORE_FORK: Final = "the networks were loaded before this process was forked"


class LocalTransport:
    """A model repository's networks in this process; safe to use from several threads."""

    def __init__(self, repository: Path, limits: Limits | None = None) -> None:
        """`repository` is what `sam-refine export` wrote. Raises `InvalidRequestError`."""
        self._limits = limits or Limits()
        self._encoder = _session(repository / SAM_IMAGE_ENCODER.name / "1" / "model.onnx")
        self._decoder = _session(repository / SAM_MASK_DECODER.name / "1" / "model.onnx")
        self._sessions = {
            SAM_IMAGE_ENCODER.name: self._encoder,
            SAM_MASK_DECODER.name: self._decoder,
        }
        self._scratch = tempfile.TemporaryDirectory(prefix="sam_refine-local-")
        self._cache = EmbeddingCache(Path(self._scratch.name), self._limits.max_cached_embeddings)
        self._is_of_parent = False

    def begin_in_fork(self) -> None:
        """ONNX Runtime's threads are left behind in the parent process."""
        self._is_of_parent = True

    def info(self, deadline_s: float | None) -> Steps[ServerInfo]:
        """What is loaded here; `sam_refine` itself is this process."""
        yield from ()
        return ServerInfo(
            "onnxruntime",
            ort.__version__,
            tuple(
                ModelInfo(
                    name,
                    ModelState.READY,
                    versions=("1",),
                    backend="onnxruntime",
                    device="GPU" if _PROVIDERS[0] in session.get_providers() else "CPU",
                    instances=1,
                    max_batch_size=0,
                )
                for name, session in self._sessions.items()
            ),
            self._limits,
            ArrayLibrary.NUMPY,
            (),
        )

    def readiness(self, deadline_s: float | None) -> Steps[Readiness]:
        """The networks were loaded when this was made."""
        yield from ()
        if self._is_of_parent:
            text = f"{_LOADED_BEFORE_FORK}; make a client in each process"
            return Readiness(False, False, dict.fromkeys(self._sessions, False), (text,))
        return Readiness(True, True, dict.fromkeys(self._sessions, True), ())

    def close(self) -> Steps[None]:
        """Forget the embeddings."""
        yield Work(self._scratch.cleanup)

    def infer(self, call: Call) -> Steps[Tensors]:
        """The outputs by name. Raises `RefineError`."""
        if self._is_of_parent:
            raise UnreachableError(_LOADED_BEFORE_FORK, advice="make a client in each process")
        work = self._embed if call.model is SAM_EMBED else self._refine
        tensors: Tensors = yield Work(lambda: _answered(work, call))
        return tensors

    def _refine(self, call: Call) -> Tensors:
        def embed(image: UInt8, image_id: str | None) -> Float32:
            key = content_key(image, image_id, "")
            embedding = self._cache.get(key)
            if embedding is None:
                call.remaining_s()
                embedding = self._encode(image)
                self._cache.put(key, embedding)
            return embedding

        def decode(embedding: Float32, prompts: Prompts) -> tuple[Float32, Float32]:
            call.remaining_s()
            inputs = {"image_embedding": embedding, **prompts.decoder_inputs()}
            low_res_logits, ious = self._decoder.run(list(SAM_MASK_DECODER.output_names), inputs)
            return low_res_logits, ious

        return answer(
            call.tensors, call.parameters, call.outputs, self._limits, embed=embed, decode=decode
        )

    def _embed(self, call: Call) -> Tensors:
        image = read_image(call.tensors, self._limits)
        call.remaining_s()
        size_hw = np.array(image.shape[:2], np.int64)
        return {"EMBEDDING": self._encode(image), "IMAGE_SIZE": size_hw}

    def _encode(self, image: UInt8) -> Float32:
        canvas, canvas_size = to_canvas(image)
        inputs = {"canvas": canvas[None], "canvas_size": np.array([canvas_size], np.int64)}
        embedding: Float32 = self._encoder.run(list(SAM_IMAGE_ENCODER.output_names), inputs)[0]
        return embedding


def _answered(work: Callable[[Call], Tensors], call: Call) -> Tensors:
    """What a server makes of the caller's faults, and of a deadline that passed meanwhile."""
    try:
        tensors = work(call)
        call.remaining_s()
        return tensors
    except RefineError:
        raise
    except InvalidRequestError as error:
        raise call.failed(RejectedError, str(error)) from error


def _session(graph: Path) -> ort.InferenceSession:
    if not graph.is_file():
        raise InvalidRequestError(f"{graph} is not there: `sam-refine export` makes it")
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    available = ort.get_available_providers()
    providers: list[Any] = [name for name in _PROVIDERS if name in available]
    return ort.InferenceSession(graph, options, providers=providers)
