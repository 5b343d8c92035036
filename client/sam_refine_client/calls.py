"""The methods of a client, each written once, as steps (`steps`), for blocking and for asyncio."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import numpy as np
from tritonclient.utils import InferenceServerException

from sam_refine.contract import (
    IMAGE_ID,
    SAM_EMBED,
    SAM_MASK_DECODER,
    SAM_MASK_JUDGE,
    SAM_REFINE,
    JudgeKind,
    RefineOptions,
    Tensors,
)
from sam_refine_client.arrays import Float32
from sam_refine_client.deadline import deadline_after, remaining_s
from sam_refine_client.embedding import Embedding
from sam_refine_client.errors import RefineError, error_of
from sam_refine_client.reading.arrays import ArrayLike
from sam_refine_client.reading.images import ImageLike
from sam_refine_client.reading.labels import LabelsLike
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.palettes import PaletteLike
from sam_refine_client.reading.scores import Activation
from sam_refine_client.request import Request, ScoresDtype, image_tensors
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
from sam_refine_client.steps.steps import Steps, Work
from sam_refine_client.transport.call import Call, Transport

R = TypeVar("R")


def refine(
    transport: Transport,
    image: ImageLike | None = None,
    *,
    logits: ArrayLike | None = None,
    labels: LabelsLike | None = None,
    embedding: Embedding | None = None,
    activation: Activation | str | None = None,
    palette: PaletteLike | None = None,
    scores_dtype: ScoresDtype | str = ScoresDtype.AUTO,
    options: RefineOptions | Mapping[str, object] | None = None,
    outputs: Collection[Output] = ("labels", "coarse_labels", "regions"),
    image_id: str | None = None,
    timeout_s: float | None = None,
) -> Steps[RefineResult]:
    """Refine one coarse map.

    `image` is RGB (H, W, 3), a PIL image, or a picture file as bytes or path; give either it or
    `embedding`, which `embed` made of it. `logits` are class scores (C, h, w), numpy or torch, at
    any resolution up to the image's; `activation` turns a network's raw output into scores first.
    `labels` (H, W) are the coarse map if it is not the argmax of the scores, or if there are none;
    `palette` has the colours of a coloured one. docs/inputs.md lists all the forms; what of them
    was doubtful is in the result's `warnings`. `options` may also be a dict. Only what `outputs`
    names is computed and sent.

    The server keeps embeddings, so that an image which comes again is not encoded again.
    `image_id` is your own name for the image: an image of the same name and size counts as the
    same, whatever its pixels, as with stills of a camera that differ only in noise. A deployment
    must allow that; by default the server goes by the pixels alone.

    Raises `InvalidRequestError` if a rule is broken (`RejectedError` if the server found that), and
    the other `RefineError`s; `DeadlineError` after `timeout_s` seconds, retries included; `OSError`
    for a file that cannot be read.
    """
    deadline_s = deadline_after(timeout_s)
    request: Request = yield from _worked(
        lambda: Request.of(
            image,
            embedding,
            logits,
            labels,
            activation=activation,
            palette=palette,
            scores_dtype=scores_dtype,
            options=options,
        )
    )
    parameters = request.options.to_parameters()
    if image_id is not None:
        parameters[IMAGE_ID] = image_id
    names = output_names(outputs, len(request.coarse.scores), request.options)
    has_coarse = request.coarse.labels is not None and "coarse_labels" in outputs
    if has_coarse:  # it need not come back
        asked = [output for output in outputs if output != "coarse_labels"]
        names = output_names(asked, len(request.coarse.scores), request.options)
    call = _call(SAM_REFINE, request.tensors, names, parameters, deadline_s)
    answer = yield from transport.infer(call)
    return request.result(result_of(answer, call.request_id), has_coarse=has_coarse)


def _worked(work: Callable[[], R]) -> Steps[R]:
    """What comes of work in this process, outside the event loop."""
    try:
        done: R = yield Work(work)
    except InferenceServerException as raised:  # the client was closed
        raise error_of(raised.status(), raised.message()) from raised
    return done


def embed(
    transport: Transport, image: ImageLike, *, timeout_s: float | None = None
) -> Steps[Embedding]:
    """SAM's embedding of an image, to refine any number of maps of it; raises as `refine` does."""
    deadline_s = deadline_after(timeout_s)
    notes = Notes()
    tensors, _ = yield from _worked(lambda: image_tensors(image, None, notes))
    call = _call(SAM_EMBED, tensors, SAM_EMBED.output_names, {}, deadline_s)
    answer = yield from transport.infer(call)
    height, width = answer["IMAGE_SIZE"].tolist()
    values = answer["EMBEDDING"].astype(np.float32, copy=False)
    return Embedding(values, (height, width), notes.sentences)


def draw_masks(
    transport: Transport,
    embedding: Embedding,
    prompts: Tensors,
    *,
    timeout_s: float | None = None,
) -> Steps[tuple[Float32, Float32]]:
    """What SAM itself draws for prompts: low-res logits (V, M, h_l, w_l), predicted IoUs (N, M).

    `prompts` are the inputs of the model `sam_mask_decoder` but the embedding, by name. For who
    learns from SAM's masks, as `sam-refine tune` does; raises as `refine` does.
    """
    tensors = {"image_embedding": embedding.values, **prompts}
    names, deadline_s = SAM_MASK_DECODER.output_names, deadline_after(timeout_s)
    answer = yield from transport.infer(_call(SAM_MASK_DECODER, tensors, names, {}, deadline_s))
    low_res_logits, ious = (answer[name] for name in names)
    return low_res_logits, ious


def info(transport: Transport, *, timeout_s: float | None = None) -> Steps[ServerInfo]:
    """What the server is: versions, models and their state, limits of requests.

    Nothing is tried again. Raises `RefineError`: `DeadlineError` after `timeout_s` seconds,
    `ForbiddenError` if the server restricts its protocol `metadata`, `model-repository` or
    `model-config`.
    """
    return (yield from transport.info(deadline_after(timeout_s)))


def health(
    transport: Transport, *, canary: bool = True, timeout_s: float | None = 30.0
) -> Steps[Health]:
    """Whether the server works; its `problems` say what is wrong and what to do.

    Asks the server, then each model, whether it is live and ready. If all are, a canary goes
    through every model, a judge where there is one: a small image is embedded, and a small map
    refined with the embedding. The server keeps nothing of it.

    Whatever is wrong with the server, nothing is raised, and all of it ends after `timeout_s`
    seconds. Raises only `InvalidRequestError` for arguments that break a rule, and
    `UnreachableError` if this client is closed.
    """
    deadline_s = deadline_after(timeout_s)
    readiness = yield from transport.readiness(deadline_s)
    problems, canary_ms = list(readiness.problems), None
    if canary and not problems:
        started_s = time.monotonic()
        try:
            has_judge = SAM_MASK_JUDGE.name in readiness.models
            wrong = yield from _canary(transport, deadline_s, has_judge=has_judge)
        except (RefineError, OSError) as error:
            wrong = problem("the canary failed", error)
        if wrong is None:
            canary_ms = (time.monotonic() - started_s) * 1000
        else:
            problems.append(wrong)
    return Health(
        readiness.is_live, readiness.is_ready, readiness.models, canary_ms, tuple(problems)
    )


def _canary(
    transport: Transport, deadline_s: float | None, *, has_judge: bool
) -> Steps[str | None]:
    """What is wrong with the answers, None if nothing is. Raises as `refine` does."""
    image, scores = canary_image(), canary_scores()
    embedding = yield from embed(transport, image, timeout_s=remaining_s(deadline_s))
    result = yield from refine(
        transport,
        embedding=embedding,
        logits=scores,
        options=RefineOptions(judge=JudgeKind.LEARNED if has_judge else JudgeKind.NONE),
        outputs=("labels", "regions"),
        timeout_s=remaining_s(deadline_s),
    )
    return wrong_in_canary(embedding, result)


def _call(
    model: Any,
    tensors: Any,
    outputs: tuple[str, ...],
    parameters: dict[str, str | int | float | bool],
    deadline_s: float | None,
) -> Call:
    return Call(model, tensors, outputs, parameters, uuid.uuid4().hex, deadline_s)
