"""What a caller sent, checked: tensors and parameters of `sam_refine` become a `RefineRequest`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sam_refine.algorithm.scores import ClassScores, grid_size
from sam_refine.contract import (
    IMAGE_ID,
    MAX_IMAGE_ID,
    MAX_MESSAGE_BYTES,
    MAX_SCORE,
    OUTPUTS,
    InvalidOptionError,
    InvalidRequestError,
    JudgeKind,
    LimitExceededError,
    Limits,
    RefineOptions,
    Tensors,
)
from sam_refine.contract.checks import number
from sam_refine.contract.serving.turns import WORK_TIME_S
from sam_refine.numerics.arrays import Array, Float32, Labels, UInt8
from sam_refine.service.images import check_size, decode_image

UINT8_OUTPUTS: Final = frozenset(
    row.uint8_tensor.name for row in OUTPUTS if row.uint8_tensor is not None
)

LONGEST_WORK_S: Final = 1e8


@dataclass(frozen=True)
class RefineRequest:
    """A request that keeps every rule. Exactly one of `image` and `embedding` is given."""

    image: UInt8 | None
    """(H, W, 3) RGB."""
    image_id: str | None
    """The caller's name of the image."""
    embedding: Float32 | None
    """(1, 256, 64, 64)."""
    scores: ClassScores
    labels: Labels | None
    """(H, W)."""
    options: RefineOptions
    max_regions: int
    """The lower one of the caller's and the deployment's limit."""
    work_time_s: float | None
    """Seconds that the caller gives to the work."""

    def placed(self, place: Callable[[npt.NDArray[Any]], Array]) -> RefineRequest:
        """The same with what is computed with where `place` puts it."""
        return replace(
            self,
            scores=replace(self.scores, values=place(self.scores.values)),
            labels=None if self.labels is None else place(self.labels),
            embedding=None if self.embedding is None else place(self.embedding),
        )


def read_request(
    tensors: Tensors,
    parameters: Mapping[str, object],
    outputs: Collection[str],
    limits: Limits,
    *,
    has_judge: bool = False,
) -> RefineRequest:
    """Check one request of `contract.SAM_REFINE` for some of its outputs.

    `has_judge` says whether the deployment has a learned judge.

    Datatypes and ranks are Triton's to check, from the model's config. Raises
    `InvalidRequestError`: `InvalidOptionError` where the rule is an option's, `LimitExceededError`
    where it is the deployment's.
    """
    options = _read_options(parameters)
    image, embedding, size_image = _read_image(tensors, limits)
    image_id = _read_image_id(parameters, embedding)
    scores = _read_scores(tensors, size_image, limits)
    _check_grid(scores, options, limits)
    labels = _read_labels(tensors, scores, options)
    if len(scores) == 1 and labels is None:
        raise InvalidRequestError(
            "scores must have at least 2 classes where there are no LABELS, got 1, of which every "
            "label is 0; of shares p of one class make two: (1 - p, p)"
        )
    _check_judge(options, scores, has_judge=has_judge)
    _check_outputs(outputs, scores, options)
    return RefineRequest(
        image,
        image_id,
        embedding,
        scores,
        labels,
        options,
        max_regions=min(limits.max_regions, options.max_regions or limits.max_regions),
        work_time_s=_read_work_time(parameters),
    )


def read_image(tensors: Tensors, limits: Limits) -> UInt8:
    """The image of a request to `contract.SAM_PREPROCESS`, RGB (H, W, 3) uint8.

    Raises `InvalidRequestError`.
    """
    if _only_one(tensors, ("IMAGE", "ENCODED_IMAGE")) == "ENCODED_IMAGE":
        return decode_image(tensors["ENCODED_IMAGE"][0], limits)
    image = tensors["IMAGE"]
    check_size("IMAGE", image.shape[0], image.shape[1], limits)
    return image


def _read_options(parameters: Mapping[str, object]) -> RefineOptions:
    try:
        return RefineOptions.from_parameters(
            {k: value for k, value in parameters.items() if k not in (IMAGE_ID, WORK_TIME_S)}
        )
    except InvalidRequestError as error:
        raise InvalidOptionError(str(error)) from error


def _read_image(
    tensors: Tensors, limits: Limits
) -> tuple[UInt8 | None, Float32 | None, tuple[int, int]]:
    """Image or embedding, and the image's size (H, W)."""
    source = _only_one(tensors, ("IMAGE", "ENCODED_IMAGE", "EMBEDDING"))
    if source != "EMBEDDING":
        if "IMAGE_SIZE" in tensors:
            raise InvalidRequestError(f"IMAGE_SIZE goes with EMBEDDING only, got it with {source}")
        image = read_image(tensors, limits)
        return image, None, (image.shape[0], image.shape[1])
    if "IMAGE_SIZE" not in tensors:
        raise InvalidRequestError("EMBEDDING needs IMAGE_SIZE (H, W), got none")
    height, width = (int(side) for side in tensors["IMAGE_SIZE"])
    if min(height, width) < 1:
        raise InvalidRequestError(f"IMAGE_SIZE must be two positive sizes, got {height}, {width}")
    check_size("IMAGE_SIZE", height, width, limits)
    _check_finite(tensors["EMBEDDING"], "EMBEDDING")
    return None, tensors["EMBEDDING"], (height, width)


def _read_image_id(parameters: Mapping[str, object], embedding: Float32 | None) -> str | None:
    image_id = parameters.get(IMAGE_ID)
    if image_id is None:
        return None
    if embedding is not None:
        raise InvalidOptionError(f"{IMAGE_ID} goes with an image, got it with EMBEDDING")
    if not isinstance(image_id, str) or not 1 <= len(image_id) <= MAX_IMAGE_ID:
        raise InvalidOptionError(
            f"{IMAGE_ID} must be a text of 1 to {MAX_IMAGE_ID} characters, got {image_id!r:.80}"
        )
    return image_id


def _read_work_time(parameters: Mapping[str, object]) -> float | None:
    if WORK_TIME_S not in parameters:
        return None
    try:
        return number(WORK_TIME_S, parameters[WORK_TIME_S], 0, LONGEST_WORK_S)
    except InvalidRequestError as error:
        raise InvalidOptionError(str(error)) from error


def _read_scores(tensors: Tensors, size_image: tuple[int, int], limits: Limits) -> ClassScores:
    name = _only_one(tensors, ("LOGITS", "LOGITS_FP16"))
    values = tensors[name]
    classes, height, width = values.shape
    if not 1 <= classes <= limits.max_classes:
        raise LimitExceededError(
            f"{name} must have 1 to {limits.max_classes} classes, got {classes}"
        )
    if not (1 <= height <= size_image[0] and 1 <= width <= size_image[1]):
        raise InvalidRequestError(
            f"{name} must be at most as large as the image, {size_image[0]} x {size_image[1]}, "
            f"and not empty, got {height} x {width}"
        )
    _check_finite(values, name)
    return ClassScores(values, size_image)


def _check_grid(scores: ClassScores, options: RefineOptions, limits: Limits) -> None:
    height, width = grid_size(scores.size_image, options.downsample_ratio)
    if len(scores) * height * width > limits.max_grid_scores:
        raise LimitExceededError(
            f"classes times cells of the working grid must be at most {limits.max_grid_scores}, "
            f"got {len(scores)} x {height} x {width}; raise downsample_ratio"
        )


def _check_judge(options: RefineOptions, scores: ClassScores, *, has_judge: bool) -> None:
    if options.judge is JudgeKind.LEARNED and not has_judge:
        raise InvalidOptionError(
            "judge learned needs a judge in the repository, which has none: `sam-refine tune` "
            "learns one, `sam-refine export --judge` puts it there"
        )
    if options.judge is JudgeKind.RULE:
        low, high = float(scores.values.min()), float(scores.values.max())
        if low < 0 or high > 1.001:  # in float16 a softmax may be a little above
            raise InvalidOptionError(
                f"judge rule needs scores that are probabilities, in [0, 1], got {low:g} to "
                f"{high:g}; apply a softmax over the classes"
            )


def _read_labels(tensors: Tensors, scores: ClassScores, options: RefineOptions) -> Labels | None:
    if "LABELS" not in tensors:
        return None
    labels = tensors["LABELS"]
    if labels.shape != scores.size_image:
        raise InvalidRequestError(
            f"LABELS must have the image's size, {scores.size_image[0]} x "
            f"{scores.size_image[1]}, got {labels.shape[0]} x {labels.shape[1]}"
        )
    outside = (labels < 0) | (labels >= len(scores))
    if options.ignore_label is not None:
        outside &= labels != options.ignore_label
    if outside.any():
        raise InvalidRequestError(
            f"LABELS must lie in [0, {len(scores)}) or be ignore_label, got "
            f"{labels[outside][0]} ({int(outside.sum())} pixels in all are outside)"
        )
    return labels


def _check_outputs(outputs: Collection[str], scores: ClassScores, options: RefineOptions) -> None:
    for name in sorted(UINT8_OUTPUTS.intersection(outputs)):
        if len(scores) > 256:
            raise InvalidRequestError(
                f"{name} needs at most 256 classes, got {len(scores)}; name the outputs you want"
            )
        if not 0 <= (options.ignore_label or 0) <= 255:
            raise InvalidOptionError(
                f"{name} needs an ignore_label in [0, 255], got {options.ignore_label}"
            )
    maps = bytes_of_maps(outputs, scores)
    if sum(maps.values()) > MAX_MESSAGE_BYTES - 2**20:  # the rest of the message is small
        raise LimitExceededError(
            f"{' and '.join(maps)} must fit one message of {MAX_MESSAGE_BYTES} bytes, would be "
            f"{sum(maps.values())}; ask for less"
        )


def bytes_of_maps(outputs: Collection[str], scores: ClassScores) -> dict[str, int]:
    """Of the outputs that are as large as the image, by name; all others are small."""
    pixels = scores.size_image[0] * scores.size_image[1]
    return {
        tensor.name: tensor.dtype.itemsize * pixels * (len(scores) if "C" in tensor.shape else 1)
        for row in OUTPUTS
        if row.is_map
        for tensor in row.tensors
        if tensor.name in outputs
    }


def _only_one(tensors: Tensors, names: tuple[str, ...]) -> str:
    given = [name for name in names if name in tensors]
    if len(given) != 1:
        raise InvalidRequestError(
            f"exactly one of {', '.join(names)} must be given, got {' and '.join(given) or 'none'}"
        )
    return given[0]


def _check_finite(values: npt.NDArray[Any], name: str) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        raise InvalidRequestError(
            f"{name} must be finite, got {finite.size - int(finite.sum())} values that are "
            "NaN or infinite"
        )
    if values.dtype != np.float16 and max(-values.min(), values.max()) > MAX_SCORE:
        raise InvalidRequestError(f"{name} must lie within +-{MAX_SCORE:g}, got larger values")
