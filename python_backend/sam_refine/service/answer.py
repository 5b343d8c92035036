"""The answer to one request of `contract.SAM_REFINE`, wherever the networks run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from sam_refine.algorithm.judging.judge import Judge, RuleJudge
from sam_refine.algorithm.judging.pipeline import refine_judged
from sam_refine.algorithm.pipeline import Refinement, refine
from sam_refine.algorithm.predict import Decode
from sam_refine.contract import OUTPUTS, JudgeKind, Limits, OutputRow, Tensors, TensorSpec
from sam_refine.numerics.arrays import Array, Float32, UInt8, to_numpy
from sam_refine.service.budget import process_budget
from sam_refine.service.memory import free_memory_bytes
from sam_refine.service.request import read_request
from sam_refine.service.room import room
from sam_refine.service.work_times import WorkTimes, size_class

Embed = Callable[[UInt8, str | None], Float32]
"""Image (H, W, 3) and the caller's name of it to SAM's embedding (1, 256, 64, 64)."""
Place = Callable[[npt.NDArray[Any]], Array]
"""Puts what a caller sent into the library, and onto the device, that computes with it."""
Report = Callable[[Refinement], None]
"""Is told of each refinement before its outputs are made: a server counts what was done."""


def answer(
    tensors: Tensors,
    parameters: Mapping[str, object],
    outputs: Collection[str],
    limits: Limits,
    *,
    embed: Embed,
    decode: Decode,
    judge: Judge | None = None,
    place: Place = lambda array: array,
    report: Report = lambda refinement: None,
    work_times: WorkTimes | None = None,
    shares_memory: bool = False,
) -> Tensors:
    """The outputs that are named, by name: the request is read, refined and written.

    `judge` is the deployment's own, None where it has none; `work_times` are what it knows of how
    long such work takes; `shares_memory` is whether tensors go through /dev/shm. Raises
    `InvalidRequestError` for a request that breaks a rule, `TooLateError` for one that could not be
    in time, `NoRoomError` for one that finds no memory, and whatever `embed`, `decode` and `judge`
    raise.
    """
    request = read_request(tensors, parameters, outputs, limits, has_judge=judge is not None)
    wanted = {row.source for row in OUTPUTS if row.is_in(outputs)}

    def embedding() -> Array:
        if request.image is None:
            return request.embedding
        return place(embed(request.image, request.image_id))

    judges: dict[JudgeKind, Judge | None] = {
        JudgeKind.NONE: None,
        JudgeKind.RULE: RuleJudge(),
        JudgeKind.LEARNED: judge,
    }
    chosen = judges[request.options.judge]
    work = refine if chosen is None else partial(refine_judged, judge=chosen)
    kind = (size_class(request.scores.size_image), request.options.judge, request.image is None)
    budget = process_budget()
    with room(request, tensors, outputs, budget, shares_memory=shares_memory) as most_prompts:
        request = request.placed(place)
        room_for_prompts = most_prompts * limits.bytes_per_prompt
        with (work_times or WorkTimes()).within(request.work_time_s, kind):
            refinement = work(
                request.scores,
                request.labels,
                request.options,
                embed=embedding,
                decode=decode,
                free_memory_bytes=min(free_memory_bytes(), room_for_prompts),
                bytes_per_prompt=limits.bytes_per_prompt,
                max_regions=request.max_regions,
                want_labels="labels" in wanted,
                want_logits="logits" in wanted,
            )
        report(refinement)
        return output_tensors(refinement, outputs)


def output_tensors(refinement: Refinement, names: Collection[str]) -> Tensors:
    """The named outputs of `contract.SAM_REFINE`, contiguous, with the contract's dtypes."""
    return {
        tensor.name: np.ascontiguousarray(to_numpy(_value(refinement, row, tensor)))
        for row in OUTPUTS
        for tensor in row.tensors
        if tensor.name in names
    }


def _value(refinement: Refinement, row: OutputRow, tensor: TensorSpec) -> Array:
    """What one tensor of a row has, where the refinement has it."""
    value = attrgetter(row.source)(refinement)
    if row.of_kept:
        value = value[refinement.regions.kept]
    if tensor == row.uint8_tensor:  # made here, so that a GPU sends a quarter of the bytes
        xp = array_namespace(value)
        value = xp.astype(value, xp.uint8)
    return value
