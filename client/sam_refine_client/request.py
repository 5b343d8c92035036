"""What a caller gives, as tensors of `contract.SAM_REFINE`, in as few bytes as possible."""

from __future__ import annotations

from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError, Tensors, choice
from sam_refine_client.embedding import Embedding
from sam_refine_client.images import ImageLike, rgb_of

ArrayLike: TypeAlias = Any
"""A numpy array, or a torch tensor on any device: torch itself is never imported."""


class Activation(str, Enum):
    """Turns a network's raw output into scores, place by place, over the classes."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class ScoresDtype(str, Enum):
    """The dtype in which class scores are sent."""

    AUTO = "auto"
    """Half precision if it holds every score exactly, otherwise float32."""
    FLOAT16 = "float16"
    FLOAT32 = "float32"


def image_tensors(image: ImageLike | None, embedding: Embedding | None) -> Tensors:
    """IMAGE or ENCODED_IMAGE, or EMBEDDING with IMAGE_SIZE. Raises `InvalidRequestError`."""
    if (image is None) == (embedding is None):
        found = "none" if image is None else "both"
        raise InvalidRequestError(f"exactly one of image and embedding must be given, got {found}")
    if image is None:
        if not isinstance(embedding, Embedding):
            raise InvalidRequestError(
                f"embedding must be what embed() gave, got {type(embedding).__name__}"
            )
        size_hw = np.array(embedding.size_hw, np.int64)
        return {"EMBEDDING": embedding.values, "IMAGE_SIZE": size_hw}
    if isinstance(image, str | PathLike):
        image = Path(image).read_bytes()
    if isinstance(image, bytes):
        return {"ENCODED_IMAGE": np.array([image], np.object_)}
    return {"IMAGE": np.ascontiguousarray(rgb_of(image))}


def score_tensors(
    logits: ArrayLike, activation: Activation | str | None, dtype: ScoresDtype | str
) -> Tensors:
    """LOGITS or LOGITS_FP16 of class scores (C, h, w). Raises `InvalidRequestError`."""
    scores = _numpy("logits", logits)
    if scores.dtype.kind not in "fiu":
        raise InvalidRequestError(f"logits must be an array of numbers, got {scores.dtype}")
    if scores.ndim != 3:
        raise InvalidRequestError(f"logits must have shape (C, h, w), got {scores.shape}")
    dtype = choice("scores_dtype", dtype, ScoresDtype, "one of auto, float16, float32")
    if activation is not None:
        rule = "one of softmax, sigmoid"
        scores = _activate(scores, choice("activation", activation, Activation, rule))
    if dtype is ScoresDtype.FLOAT16 or (dtype is ScoresDtype.AUTO and _is_half_enough(scores)):
        return {"LOGITS_FP16": np.ascontiguousarray(scores, np.float16)}
    return {"LOGITS": np.ascontiguousarray(scores, np.float32)}


def label_tensors(labels: ArrayLike | None) -> Tensors:
    """LABELS of a coarse map (H, W), if there is one. Raises `InvalidRequestError`."""
    if labels is None:
        return {}
    labels = _numpy("labels", labels)
    if labels.dtype.kind not in "iu":
        raise InvalidRequestError(f"labels must be an array of integers, got {labels.dtype}")
    if labels.ndim != 2:
        raise InvalidRequestError(f"labels must have shape (H, W), got {labels.shape}")
    limits = np.iinfo(np.int32)
    if labels.size and not limits.min <= labels.min() <= labels.max() <= limits.max:
        raise InvalidRequestError(f"labels must fit int32, got {labels.min()} to {labels.max()}")
    return {"LABELS": np.ascontiguousarray(labels, np.int32)}


def _is_half_enough(scores: npt.NDArray[Any]) -> bool:
    """Whether float16 holds each of the scores exactly."""
    if scores.dtype == np.float16:
        return True
    with np.errstate(over="ignore"):
        return bool(np.array_equal(scores.astype(np.float16), scores))


def _activate(scores: npt.NDArray[Any], activation: Activation) -> npt.NDArray[np.float32]:
    scores = scores.astype(np.float32)  # a copy
    if activation is Activation.SIGMOID:
        np.exp(-np.clip(scores, -88, None), out=scores)
        scores += 1
        np.reciprocal(scores, out=scores)
        return scores
    if len(scores):
        scores -= scores.max(axis=0)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores


def _numpy(name: str, array: ArrayLike) -> npt.NDArray[Any]:
    """A numpy array as it is; a torch tensor brought to the CPU, bfloat16 as float32."""
    if isinstance(array, np.ndarray):
        return array
    if type(array).__module__.partition(".")[0] == "torch" and hasattr(array, "detach"):
        tensor = array.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        converted: npt.NDArray[Any] = tensor.numpy()
        return converted
    raise InvalidRequestError(
        f"{name} must be a numpy array or a torch tensor, got {type(array).__name__}"
    )
