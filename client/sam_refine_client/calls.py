"""The methods of a client, each written once as steps (`steps`)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from typing import Any

import numpy as np

from sam_refine.contract import (
    IMAGE_ID,
    SAM_EMBED,
    SAM_REFINE,
    InvalidRequestError,
    RefineOptions,
)
from sam_refine_client.deadline import deadline_after, remaining_s
from sam_refine_client.embedding import Embedding
from sam_refine_client.errors import RefineError
from sam_refine_client.images import ImageLike
from sam_refine_client.request import (
    Activation,
    ArrayLike,
    ScoresDtype,
    image_tensors,
    label_tensors,
    score_tensors,
)
from sam_refine_client.response import Output, output_names, result_of
from sam_refine_client.result import RefineResult
from sam_refine_client.status.health import (
    Health,
    canary_image,
    canary_scores,
    problem,
    wrong_in_canary,
)
from sam_refine_client.status.info import ServerInfo
from sam_refine_client.steps import Steps
from sam_refine_client.transport.grpc import Call, Transport


def refine(
    transport: Transport,
    image: ImageLike | None = None,
    *,
    logits: ArrayLike,
    labels: ArrayLike | None = None,
    embedding: Embedding | None = None,
    activation: Activation | str | None = None,
    scores_dtype: ScoresDtype | str = ScoresDtype.AUTO,
    options: RefineOptions | None = None,
    outputs: Collection[Output] = ("labels", "regions"),
    image_id: str | None = None,
    timeout_s: float | None = None,
) -> Steps[RefineResult]:
    """Refine one coarse map.

    `image` is RGB (H, W, 3) uint8, a PIL image, or a JPEG or PNG as bytes or path; or `embedding`
    is what `embed` gave for it. `logits` are class scores (C, h, w), numpy or torch, at any
    resolution up to the image's; `activation` makes scores of a network's raw output first.
    `labels` (H, W) are the coarse map where it is not their argmax. Only what `outputs` names is
    computed and sent.

    The server keeps embeddings: the same image again is not encoded again. `image_id`, your own
    name of the image, stands for its pixels there, for stills of a camera that differ in noise
    only.

    Raises `InvalidRequestError` where a rule is broken (`RejectedError` where the server found it)
    and the other `RefineError`s; `DeadlineError` after `timeout_s` seconds, retries included.
    """
    options = _options(options)
    tensors = {
        **image_tensors(image, embedding),
        **score_tensors(logits, activation, scores_dtype),
        **label_tensors(labels),
    }
    parameters = options.to_parameters()
    if image_id is not None:
        parameters[IMAGE_ID] = image_id
    names = output_names(outputs, len(logits), options)
    call = _call(SAM_REFINE, tensors, names, parameters, timeout_s)
    answer = yield from transport.infer(call)
    return result_of(answer, call.request_id)


def embed(
    transport: Transport, image: ImageLike, *, timeout_s: float | None = None
) -> Steps[Embedding]:
    """SAM's embedding of an image, for any number of maps of it; raises as `refine` does."""
    call = _call(SAM_EMBED, image_tensors(image, None), SAM_EMBED.output_names, {}, timeout_s)
    answer = yield from transport.infer(call)
    height, width = answer["IMAGE_SIZE"].tolist()
    return Embedding(answer["EMBEDDING"].astype(np.float32, copy=False), (height, width))


def info(transport: Transport, *, timeout_s: float | None = None) -> Steps[ServerInfo]:
    """What the server is: versions, models and their state, limits of requests.

    It is asked once. Raises `RefineError`: `DeadlineError` after `timeout_s` seconds,
    `ForbiddenError` where the server restricts its protocol `metadata`, `model-repository` or
    `model-config`.
    """
    return (yield from transport.info(deadline_after(timeout_s)))


def health(
    transport: Transport, *, canary: bool = True, timeout_s: float | None = 30.0
) -> Steps[Health]:
    """Whether the server does its work; what is wrong, and what to do, are its `problems`.

    The server is asked whether it is live and ready, then each model. Where all are, the canary
    goes through every one of them: a small image to its embedding, which refines a small map. The
    server keeps nothing of it.

    Raises nothing because of a server, not after `timeout_s` seconds for all of it either; only
    `InvalidRequestError` for arguments that break a rule, and `UnreachableError` where this client
    is closed.
    """
    deadline_s = deadline_after(timeout_s)
    readiness = yield from transport.readiness(deadline_s)
    problems, canary_ms = list(readiness.problems), None
    if canary and not problems:
        started_s = time.monotonic()
        try:
            wrong = yield from _canary(transport, deadline_s)
        except (RefineError, OSError) as error:
            wrong = problem("the canary failed", error)
        if wrong is None:
            canary_ms = (time.monotonic() - started_s) * 1000
        else:
            problems.append(wrong)
    return Health(
        readiness.is_live, readiness.is_ready, readiness.models, canary_ms, tuple(problems)
    )


def _canary(transport: Transport, deadline_s: float | None) -> Steps[str | None]:
    """What is wrong in the answers. Raises as `refine` does."""
    image, scores = canary_image(), canary_scores()
    embedding = yield from embed(transport, image, timeout_s=remaining_s(deadline_s))
    result = yield from refine(
        transport, embedding=embedding, logits=scores, timeout_s=remaining_s(deadline_s)
    )
    return wrong_in_canary(embedding, result)


def _call(
    model: Any,
    tensors: Any,
    outputs: tuple[str, ...],
    parameters: dict[str, str | int | float | bool],
    timeout_s: float | None,
) -> Call:
    deadline_s = deadline_after(timeout_s)
    return Call(model, tensors, outputs, parameters, uuid.uuid4().hex, deadline_s)


def _options(options: RefineOptions | None) -> RefineOptions:
    if options is None:
        return RefineOptions()
    if not isinstance(options, RefineOptions):
        raise InvalidRequestError(f"options must be RefineOptions, got {type(options).__name__}")
    return options
