"""SAM's exported networks in this process, by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from sam_refine.algorithm.judging.judge import Infer, LearnedJudge
from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import (
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    SAM_MASK_JUDGE,
    InvalidRequestError,
    ModelSpec,
    Tensors,
)
from sam_refine.contract.serving.gpu import (
    CUDA,
    GPU_PROVIDERS,
    has_gpu,
    load_cuda_libraries,
    why_not_on_gpu,
)
from sam_refine.numerics.arrays import Float32, UInt8

CPU: Final = "CPUExecutionProvider"

Decode: TypeAlias = Callable[[Float32, Prompts], tuple[Float32, Float32]]
"""Embedding (1, 256, 64, 64) and N prompts to the low-res logits (V, 1, h_l, w_l) of those whose
predicted IoU is above the prompts' threshold, and all predicted IoUs (N, 1)."""


class Networks:
    """Image encoder and mask decoder of a model repository; safe to use from several threads."""

    def __init__(self, repository: Path, providers: Sequence[str] = (CUDA, CPU)) -> None:
        """`repository` is what `sam-refine export` wrote; the first available provider runs it.

        Raises `InvalidRequestError` if a graph is not there.
        """
        self.encoder_onnx = _graph(repository, SAM_IMAGE_ENCODER)
        self.decoder_onnx = _graph(repository, SAM_MASK_DECODER)
        self._encoder = _session(self.encoder_onnx, providers)
        self._decoder = _session(self.decoder_onnx, providers)
        judge_onnx = _path(repository, SAM_MASK_JUDGE)
        self.judge = LearnedJudge(_judge(judge_onnx)) if judge_onnx.is_file() else None
        """The repository's own, if it has one."""

    @property
    def is_on_gpu(self) -> bool:
        """Whether a GPU runs them."""
        return CUDA in self._encoder.get_providers()

    @property
    def why_not_on_gpu(self) -> str | None:
        """Why they leave a GPU idle that is here; None where they do not."""
        return why_not_on_gpu(self._encoder.get_providers(), ort.get_available_providers())

    def embed(self, canvas: UInt8, canvas_size: tuple[int, int]) -> Float32:
        """A canvas (1024, 1024, 3) and the image's size (h, w) on it to (1, 256, 64, 64)."""
        inputs = {"canvas": canvas[None], "canvas_size": np.array([canvas_size], np.int64)}
        embedding: Float32 = self._encoder.run(list(SAM_IMAGE_ENCODER.output_names), inputs)[0]
        return embedding

    def decode(self, embedding: Float32, prompts: Prompts) -> tuple[Float32, Float32]:
        """Low-res logits (V, M, h_l, w_l) and predicted IoUs (N, M)."""
        outputs = self.draw_masks({"image_embedding": embedding, **prompts.decoder_inputs()})
        low_res_logits, ious = outputs.values()
        return low_res_logits, ious

    def draw_masks(self, inputs: Tensors) -> Tensors:
        """The decoder itself, `contract.SAM_MASK_DECODER`."""
        names = SAM_MASK_DECODER.output_names
        return dict(zip(names, self._decoder.run(list(names), inputs), strict=True))


def _path(repository: Path, model: ModelSpec) -> Path:
    return repository / model.name / "1" / "model.onnx"


def _judge(judge_onnx: Path) -> Infer:
    session = _session(judge_onnx, (CPU,))

    def infer(mask_features: Float32, change_features: Float32) -> tuple[Float32, Float32]:
        inputs = dict(
            zip(SAM_MASK_JUDGE.input_names, (mask_features, change_features), strict=True)
        )
        mask_gains, change_gains = session.run(list(SAM_MASK_JUDGE.output_names), inputs)
        return mask_gains, change_gains

    return infer


@dataclass(frozen=True)
class _Answer:
    """What the decoder said of a batch of prompts."""

    iou_threshold: float
    low_res_logits: Float32
    ious: Float32

    def above(self, iou_threshold: float) -> tuple[Float32, Float32]:
        """What it would have said at this threshold, which is not below its own."""
        ious = self.ious.max(axis=1)
        answered = ious[ious > np.float32(self.iou_threshold)]
        return self.low_res_logits[answered > np.float32(iou_threshold)], self.ious


class DecoderMemo:
    """A decoder that is not asked twice the same about an image; safe to use from several threads.

    What it said is kept for the latest embedding only. A higher `iou_threshold` only leaves masks
    out, so that the answer at a lower one serves.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._embedding = b""
        self._answers: dict[bytes, _Answer] = {}
        self._lock = Lock()

    def decode(self, embedding: Float32, prompts: Prompts) -> tuple[Float32, Float32]:
        """As the decoder itself."""
        image, question = _digest(embedding), _question(prompts)
        with self._lock:
            if image != self._embedding:
                self._embedding, self._answers = image, {}
            answer = self._answers.get(question)
        if answer is None or answer.iou_threshold > prompts.iou_threshold:
            answer = _Answer(prompts.iou_threshold, *self._decode(embedding, prompts))
            with self._lock:
                if image == self._embedding:
                    self._answers[question] = answer
        return answer.above(prompts.iou_threshold)


def _question(prompts: Prompts) -> bytes:
    """What the decoder is asked, its threshold aside."""
    inputs = prompts.decoder_inputs()
    del inputs["iou_threshold"]
    return b"".join(_digest(inputs[name]) for name in sorted(inputs))


def _digest(array: npt.NDArray[np.generic]) -> bytes:
    described = blake2b(f"{array.shape} {array.dtype}".encode(), digest_size=16)
    described.update(np.ascontiguousarray(array).data)
    return described.digest()


def _graph(repository: Path, model: ModelSpec) -> Path:
    graph = _path(repository, model)
    if not graph.is_file():
        raise InvalidRequestError(f"{graph} is not there: `sam-refine export` makes it")
    return graph


def _session(graph: Path, providers: Sequence[str]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    available = ort.get_available_providers()
    chosen = [name for name in providers if name in available]
    if not has_gpu():
        chosen = [name for name in chosen if name not in GPU_PROVIDERS]
    if CUDA in chosen:
        load_cuda_libraries(ort)
    return ort.InferenceSession(graph, options, providers=chosen)
