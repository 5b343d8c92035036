"""What a caller gives, as tensors of `contract.SAM_REFINE`, in as few bytes as possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError, RefineOptions, Tensors, choice
from sam_refine_client.embedding import Embedding
from sam_refine_client.reading.arrays import ArrayLike
from sam_refine_client.reading.coarse_map import CoarseMap, read_coarse_map
from sam_refine_client.reading.images import (
    EXIF_NOTE,
    ImageLike,
    Like,
    image_name_of,
    read_image,
)
from sam_refine_client.reading.labels import LabelsLike, labels_size_of
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.palettes import PaletteLike
from sam_refine_client.reading.scores import (
    Activation,
    Scores,
    loaded_scores,
    scores_size_of,
)
from sam_refine_client.result import RefineResult


class ScoresDtype(str, Enum):
    """The dtype in which class scores are sent."""

    AUTO = "auto"
    """Half precision if it holds every score exactly, otherwise float32."""
    FLOAT16 = "float16"
    FLOAT32 = "float32"


@dataclass(frozen=True, eq=False)
class Request:
    """One refinement as it is sent, and what makes the caller's result of the answer."""

    tensors: Tensors
    options: RefineOptions
    """As they are sent."""
    coarse: CoarseMap
    notes: Notes
    image: ImageLike | None

    @classmethod
    def of(
        cls,
        image: ImageLike | None,
        embedding: Embedding | None,
        logits: ArrayLike | None,
        labels: LabelsLike | None,
        *,
        activation: Activation | str | None,
        palette: PaletteLike | None,
        scores_dtype: ScoresDtype | str,
        options: RefineOptions | Mapping[str, object] | None,
    ) -> Request:
        """Read all that a caller gives. Raises `InvalidRequestError`, `OSError`."""
        options, notes = read_options(options), Notes()
        dtype = choice("scores_dtype", scores_dtype, ScoresDtype, "one of auto, float16, float32")
        _check_one_source(image, embedding)
        like_hw = None if labels is None else labels_size_of(labels)
        logits = loaded_scores(logits)
        scores_hw = scores_size_of(logits) if labels is None else None
        tensors, size_hw = image_tensors(image, embedding, notes, like_hw, scores_hw)
        coarse = read_coarse_map(
            logits,
            labels,
            notes,
            size_hw=size_hw,
            activation=activation,
            palette=palette,
            ignore_label=options.ignore_label,
            image_name=image_name_of(image),
        )
        tensors = {**tensors, **score_tensors(coarse.scores, dtype)}
        if coarse.labels is not None:
            tensors["LABELS"] = np.ascontiguousarray(coarse.labels, np.int32)
        return cls(tensors, coarse.options(options), coarse, notes, image)

    def result(self, answer: RefineResult, *, has_coarse: bool) -> RefineResult:
        """The answer by the caller's class ids; `has_coarse`: with the coarse map that was sent."""
        coarse, regions = self.coarse, answer.regions
        labels, coarse_labels = (
            None if each is None else coarse.own(each)
            for each in (answer.labels, coarse.labels if has_coarse else answer.coarse_labels)
        )
        if coarse.class_ids is not None and regions is not None:
            regions = tuple(
                replace(region, class_id=coarse.own_class(region.class_id)) for region in regions
            )
        return replace(
            answer,
            labels=labels,
            coarse_labels=coarse_labels,
            regions=regions,
            warnings=self.notes.sentences,
            ignore_label=self.options.ignore_label if coarse.labels is None else coarse.void,
            class_ids=coarse.class_ids,
            image=self.image,
        )


def read_options(options: RefineOptions | Mapping[str, object] | None) -> RefineOptions:
    """Options as they are, or of a mapping as request parameters. Raises `InvalidRequestError`."""
    if options is None:
        return RefineOptions()
    if isinstance(options, Mapping):
        return RefineOptions.from_parameters(options)
    if not isinstance(options, RefineOptions):
        raise InvalidRequestError(
            f"options must be RefineOptions or a dict of them, got {type(options).__name__}"
        )
    return options


def image_tensors(
    image: ImageLike | None,
    embedding: Embedding | None,
    notes: Notes,
    like_hw: tuple[int, int] | None = None,
    scores_hw: tuple[int, int] | None = None,
) -> tuple[Tensors, tuple[int, int]]:
    """IMAGE or ENCODED_IMAGE, or EMBEDDING with IMAGE_SIZE; and (H, W).

    `like_hw` is the size of the image's label map, if there is one, else `scores_hw` that of its
    scores. Raises `InvalidRequestError`, `OSError`.
    """
    _check_one_source(image, embedding)
    if embedding is not None:
        if not isinstance(embedding, Embedding):
            raise InvalidRequestError(
                f"embedding must be what embed() gave, got {type(embedding).__name__}"
            )
        for warning in embedding.warnings:
            notes.add(warning)
            _check_not_turned(warning, embedding.size_hw, like_hw, scores_hw)
        size_hw = np.array(embedding.size_hw, np.int64)
        return {"EMBEDDING": embedding.values, "IMAGE_SIZE": size_hw}, embedding.size_hw
    assert image is not None
    read = read_image(image, notes, like_hw=like_hw, scores_hw=scores_hw)
    if read.file is not None:
        return {"ENCODED_IMAGE": np.array([read.file], np.object_)}, read.size_hw
    return {"IMAGE": np.ascontiguousarray(read.pixels)}, read.size_hw


def _check_not_turned(
    warning: str,
    size_hw: tuple[int, int],
    like_hw: tuple[int, int] | None,
    scores_hw: tuple[int, int] | None,
) -> None:
    """Raise `InvalidRequestError` for the map of an upright photo, embedded as it is stored."""
    if EXIF_NOTE in warning and Like(like_hw, scores_hw).of_turned(size_hw):
        raise InvalidRequestError(
            "the map is of the upright photo, but the embedding of its pixels as they are stored; "
            "give embed() the upright one: PIL.ImageOps.exif_transpose(PIL.Image.open(...))"
        )


def _check_one_source(image: Any, embedding: Any) -> None:
    if (image is None) == (embedding is None):
        found = "none" if image is None else "both"
        raise InvalidRequestError(f"exactly one of image and embedding must be given, got {found}")


def score_tensors(scores: Scores, dtype: ScoresDtype) -> Tensors:
    """LOGITS or LOGITS_FP16 of class scores (C, h, w)."""
    if dtype is ScoresDtype.FLOAT16 or (dtype is ScoresDtype.AUTO and _is_half_enough(scores)):
        return {"LOGITS_FP16": np.ascontiguousarray(scores, np.float16)}
    return {"LOGITS": np.ascontiguousarray(scores, np.float32)}


def _is_half_enough(scores: npt.NDArray[Any]) -> bool:
    """Whether float16 holds each of the scores exactly."""
    if scores.dtype == np.float16:
        return True
    with np.errstate(over="ignore"):
        return bool(np.array_equal(scores.astype(np.float16), scores))
