"""One request of `contract.SAM_REFINE`, from tensors to tensors, wherever the networks run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy.typing as npt

from sam_refine.algorithm.pipeline import refine
from sam_refine.algorithm.predict import Decode
from sam_refine.contract import Limits, Tensors
from sam_refine.numerics.arrays import Array, Float32, UInt8
from sam_refine.service.memory import free_memory_bytes
from sam_refine.service.request import read_request
from sam_refine.service.response import LABEL_OUTPUTS, output_tensors

Embed = Callable[[UInt8, str | None], Float32]
"""Image (H, W, 3) and the caller's name of it to SAM's embedding (1, 256, 64, 64)."""
Place = Callable[[npt.NDArray[Any]], Array]
"""What a caller sent, in the library and on the device that shall compute with it."""


def answer(
    tensors: Tensors,
    parameters: Mapping[str, object],
    outputs: Collection[str],
    limits: Limits,
    *,
    embed: Embed,
    decode: Decode,
    place: Place = lambda array: array,
) -> Tensors:
    """The outputs that are named, by name.

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
        want_labels=not LABEL_OUTPUTS.isdisjoint(outputs),
        want_logits="REFINED_LOGITS" in outputs,
    )
    return output_tensors(refinement, outputs)
