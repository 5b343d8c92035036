"""The server's work in this process: ONNX Runtime instead of Triton, the same library otherwise.

Needs the extra `local`. Only this module and `local_networks` use more of `sam_refine` than its
contract.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import (
    SAM_EMBED,
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    SAM_MASK_JUDGE,
    ArrayLibrary,
    InvalidRequestError,
    Limits,
    Tensors,
)
from sam_refine.numerics.arrays import Float32, UInt8
from sam_refine.service.answer import answer
from sam_refine.service.embedding_cache import EmbeddingCache, content_key
from sam_refine.service.images import to_canvas
from sam_refine.service.request import read_image
from sam_refine.service.room import NoRoomError
from sam_refine_client.errors import (
    OverloadedError,
    RefineError,
    RejectedError,
    UnreachableError,
)
from sam_refine_client.status.health import Readiness
from sam_refine_client.status.info import ModelInfo, ModelState, ServerInfo
from sam_refine_client.steps.steps import Steps, Work
from sam_refine_client.transport.call import Call
from sam_refine_client.transport.local_networks import DecoderMemo, Networks

_MODELS: Final = (SAM_IMAGE_ENCODER.name, SAM_MASK_DECODER.name)
_LOADED_BEFORE_FORK: Final = "the networks were loaded before this process was forked"


class LocalTransport:
    """A model repository's networks in this process; safe to use from several threads."""

    def __init__(self, repository: Path, limits: Limits | None = None) -> None:
        """`repository` is what `sam-refine export` wrote. Raises `InvalidRequestError`."""
        self._limits = limits or Limits()
        self._networks = Networks(repository)
        self._scratch = tempfile.TemporaryDirectory(prefix="sam_refine-local-")
        self._cache = EmbeddingCache(Path(self._scratch.name), self._limits.max_cached_embeddings)
        self._decode = self._networks.decode
        self._is_of_parent = False

    @contextmanager
    def same_image(self) -> Iterator[None]:
        """Inside the block the decoder is not asked twice the same about the latest image."""
        before, self._decode = self._decode, DecoderMemo(self._networks.decode).decode
        try:
            yield
        finally:
            self._decode = before

    def begin_in_fork(self) -> None:
        """Refuse to work: ONNX Runtime's threads exist in the parent process only."""
        self._is_of_parent = True

    def info(self, deadline_s: float | None) -> Steps[ServerInfo]:
        """The networks that are loaded here; this process itself does what `sam_refine` does."""
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
                    device="GPU" if self._networks.is_on_gpu else "CPU",
                    instances=1,
                    max_batch_size=0,
                )
                for name in _MODELS
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
            return Readiness(False, False, dict.fromkeys(_MODELS, False), (text,))
        idle_gpu = self._networks.why_not_on_gpu
        problems = () if idle_gpu is None else (f"the networks run on the CPU: {idle_gpu}",)
        judge = () if self._networks.judge is None else (SAM_MASK_JUDGE.name,)
        return Readiness(True, True, dict.fromkeys((*_MODELS, *judge), True), problems)

    def close(self) -> Steps[None]:
        """Forget the embeddings."""
        yield Work(self._scratch.cleanup)

    def infer(self, call: Call) -> Steps[Tensors]:
        """The outputs by name. Raises `RefineError`."""
        if self._is_of_parent:
            raise UnreachableError(_LOADED_BEFORE_FORK, advice="make a client in each process")
        works = {SAM_EMBED.name: self._embed, SAM_MASK_DECODER.name: self._draw_masks}
        work = works.get(call.model.name, self._refine)
        tensors: Tensors = yield Work(lambda: _answered(work, call))
        return tensors

    def _refine(self, call: Call) -> Tensors:
        def embed(image: UInt8, image_id: str | None) -> Float32:
            name = image_id if self._limits.allow_image_ids else None
            key = content_key(image, name, "")
            embedding = self._cache.get(key)
            if embedding is None:
                call.remaining_s()
                embedding = self._networks.embed(*to_canvas(image))
                self._cache.put(key, embedding)
            return embedding

        def decode(embedding: Float32, prompts: Prompts) -> tuple[Float32, Float32]:
            call.remaining_s()
            return self._decode(embedding, prompts)

        return answer(
            call.tensors,
            call.parameters,
            call.outputs,
            self._limits,
            embed=embed,
            decode=decode,
            judge=self._networks.judge,
        )

    def _draw_masks(self, call: Call) -> Tensors:
        call.remaining_s()
        return self._networks.draw_masks(call.tensors)

    def _embed(self, call: Call) -> Tensors:
        image = read_image(call.tensors, self._limits)
        call.remaining_s()
        size_hw = np.array(image.shape[:2], np.int64)
        embedding = self._networks.embed(*to_canvas(image))
        return {"EMBEDDING": embedding, "IMAGE_SIZE": size_hw}


def _answered(work: Callable[[Call], Tensors], call: Call) -> Tensors:
    """What a server would answer to a mistake of the caller, and to a deadline that has passed."""
    try:
        tensors = work(call)
        call.remaining_s()
        return tensors
    except RefineError:
        raise
    except InvalidRequestError as error:
        raise call.failed(RejectedError, str(error)) from error
    except NoRoomError as error:
        raise call.failed(OverloadedError, str(error)) from error
