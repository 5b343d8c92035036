"""The answer to one request of `contract.SAM_REFINE`, wherever the networks run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from sam_refine.algorithm.pipeline import Refinement, refine
from sam_refine.algorithm.predict import Decode
from sam_refine.contract import Limits, Tensors
from sam_refine.numerics.arrays import Array, Float32, UInt8, to_numpy
from sam_refine.service.memory import free_memory_bytes
from sam_refine.service.request import read_request

Embed = Callable[[UInt8, str | None], Float32]
"""Image (H, W, 3) and the caller's name of it to SAM's embedding (1, 256, 64, 64)."""
Place = Callable[[npt.NDArray[Any]], Array]
"""Puts what a caller sent into the library, and onto the device, that computes with it."""
Report = Callable[[Refinement], None]
"""Is told of each refinement before its outputs are made: a server counts what was done."""

_LABEL_OUTPUTS: Final = frozenset({"REFINED_LABELS", "REFINED_LABELS_UINT8"})
_OUTPUTS: Final[Mapping[str, Callable[[Refinement], Any]]] = MappingProxyType(
    {
        "REFINED_LABELS": lambda refinement: refinement.labels,
        "REFINED_LABELS_UINT8": lambda refinement: _uint8(refinement.labels),
        "REFINED_LOGITS": lambda refinement: refinement.logits,
        "COARSE_LABELS": lambda refinement: refinement.coarse_labels,
        "COARSE_LABELS_UINT8": lambda refinement: _uint8(refinement.coarse_labels),
        "IOU_PREDICTIONS": lambda refinement: refinement.regions.ious[refinement.regions.kept],
        "BOXES": lambda refinement: refinement.regions.boxes_xyxy_image[refinement.regions.kept],
        "REGION_CLASSES": lambda refinement: refinement.regions.classes,
        "REGION_BOXES": lambda refinement: refinement.regions.boxes_xyxy_image,
        "REGION_SCORES": lambda refinement: refinement.regions.scores,
        "REGION_IOUS": lambda refinement: refinement.regions.ious,
        "REGION_KEPT": lambda refinement: refinement.regions.kept,
        "STAGE_TIMES_MS": lambda refinement: refinement.stage_times_ms,
    }
)


def answer(
    tensors: Tensors,
    parameters: Mapping[str, object],
    outputs: Collection[str],
    limits: Limits,
    *,
    embed: Embed,
    decode: Decode,
    place: Place = lambda array: array,
    report: Report = lambda refinement: None,
) -> Tensors:
    """The outputs that are named, by name: the request is read, refined and written.

    Raises `InvalidRequestError` for a request that breaks a rule, and whatever `embed` and `decode`
    raise.
    """
    request = read_request(tensors, parameters, outputs, limits).placed(place)

    def embedding() -> Array:
        if request.image is None:
            return request.embedding
        return place(embed(request.image, request.image_id))

    refinement = refine(
        request.scores,
        request.labels,
        request.options,
        embed=embedding,
        decode=decode,
        free_memory_bytes=free_memory_bytes(),
        bytes_per_prompt=limits.bytes_per_prompt,
        max_regions=request.max_regions,
        want_labels=not _LABEL_OUTPUTS.isdisjoint(outputs),
        want_logits="REFINED_LOGITS" in outputs,
    )
    report(refinement)
    return output_tensors(refinement, outputs)


def output_tensors(refinement: Refinement, names: Collection[str]) -> Tensors:
    """The named outputs of `contract.SAM_REFINE`, contiguous, with the contract's dtypes."""
    return {
        name: np.ascontiguousarray(to_numpy(read(refinement)))
        for name, read in _OUTPUTS.items()
        if name in names
    }


def _uint8(labels: Array) -> Array:
    """Where the labels are, so that a quarter of the bytes travels."""
    xp = array_namespace(labels)
    return xp.astype(labels, xp.uint8)
