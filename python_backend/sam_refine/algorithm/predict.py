"""Predict: the prompts of all classes go to SAM's mask decoder in full batches.

An example: 8 prompts of 3 classes, three at a time. The listing would make a call for each class.

    prompt   0 1 2 3 4 5 6 7
    class    0 0 1 1 1 1 4 4
    call     0 0 0 1 1 1 2 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import MASK_SIDE, MOST_PROMPTS
from sam_refine.numerics.arrays import Array, Float32, to_numpy

Decode = Callable[[Array, Prompts], tuple[Array, Array]]
"""Embedding (1, 256, 64, 64) and n prompts to low-res logits (v, m, h_l, w_l), IoUs (n, m).

Logits are those of the v prompts, in their order, with an IoU above `Prompts.iou_threshold`; m is 4
where `Prompts.choice` is all masks, else 1.
"""


class DecodedBatch(NamedTuple):
    """What the decoder says of n prompts; masks of the v kept ones only."""

    batch: slice
    """Which of all prompts they are."""
    low_res_logits: Array
    """(v, m, h_l, w_l)."""
    ious: Float32
    """(n, m) predicted IoUs."""
    kept: npt.NDArray[np.bool_]
    """(n,) whether one of these is above tau_iou."""


@dataclass(frozen=True)
class Predictions:
    """What SAM says of Q prompts; masks of the N kept ones only."""

    ious: Float32
    """Q_i: (Q,) predicted IoU."""
    kept: npt.NDArray[np.bool_]
    """V_i: (Q,) whether it is above tau_iou."""
    low_res_logits: Array
    """L_v: (N, h_l, w_l), where the decoder has put them."""


def batch_size(free_memory_bytes: int, bytes_per_prompt: int) -> int:
    """b_size = min(32, max(1, floor(M_free / bytes_per_prompt))), in prompts."""
    return min(MOST_PROMPTS, max(1, free_memory_bytes // bytes_per_prompt))


def no_predictions() -> Predictions:
    """What SAM says of no prompts."""
    return Predictions(
        np.empty(0, np.float32),
        np.empty(0, np.bool_),
        np.empty((0, MASK_SIDE, MASK_SIDE), np.float32),
    )


def decode_batches(
    embedding: Array, prompts: Prompts, decode: Decode, b_size: int
) -> Iterator[DecodedBatch]:
    """Decode the prompts `b_size` at a time."""
    for start in range(0, len(prompts), b_size):
        batch = slice(start, min(start + b_size, len(prompts)))
        low_res_logits, predicted = decode(embedding, prompts.some(batch))
        ious = to_numpy(predicted)
        kept = ious.max(axis=1) > np.float32(prompts.iou_threshold)
        yield DecodedBatch(batch, low_res_logits, ious, kept)


def predict(embedding: Array, prompts: Prompts, decode: Decode, b_size: int) -> Predictions:
    """Decode the prompts, at least one, of one mask each."""
    ious = np.empty(len(prompts), np.float32)
    kept = np.empty(len(prompts), np.bool_)
    count = 0
    for decoded in decode_batches(embedding, prompts, decode, b_size):
        batch, low_res_logits = decoded.batch, decoded.low_res_logits
        ious[batch], kept[batch] = decoded.ious[:, 0], decoded.kept
        if batch.start == 0:  # room for all: on a CPU, memory that is not written to is not taken
            xp, on = array_namespace(low_res_logits), device(low_res_logits)
            shape = len(prompts), *low_res_logits.shape[2:]
            masks = xp.empty(shape, dtype=xp.float32, device=on)
        masks[count : count + len(low_res_logits)] = low_res_logits[:, 0]
        count += len(low_res_logits)
    return Predictions(ious, kept, masks[:count])
