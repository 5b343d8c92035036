"""What local mode's decoder is asked, and what it is not asked again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import MaskChoice, MaskPrompt
from sam_refine_client.transport.local_networks import DecoderMemo

PROMPTS = Prompts(
    point_coords=np.zeros((3, 3, 2), np.float32),
    point_labels=np.zeros((3, 3), np.float32),
    mask_prompts=np.zeros((1, 1, 256, 256), np.float32),
    mask_index=np.zeros(3, np.int64),
    mask_prompt=MaskPrompt.SAM,
    choice=MaskChoice.SINGLE,
    iou_threshold=0.5,
    low_res_size=(2, 2),
)
IOUS = np.array([[0.9], [0.2], [0.6]], np.float32)
EMBEDDING = np.zeros((1, 4), np.float32)


class Decoder:
    """Masks of the prompts' numbers, and how often they were asked for."""

    def __init__(self):
        self.calls = 0

    def decode(self, embedding, prompts):
        self.calls += 1
        kept = np.flatnonzero(IOUS[:, 0] > np.float32(prompts.iou_threshold))
        return np.broadcast_to(kept[:, None, None, None], (len(kept), 1, 2, 2)), IOUS


@pytest.fixture
def decoder():
    return Decoder()


@pytest.mark.parametrize("iou_threshold", [0.5, 0.6, 0.7, 1.0])
def test_memo_answers_as_the_decoder_at_its_threshold_and_above(decoder, iou_threshold):
    memo = DecoderMemo(decoder.decode)
    for asked in (PROMPTS, replace(PROMPTS, iou_threshold=iou_threshold)):
        answer, expected = memo.decode(EMBEDDING, asked), Decoder().decode(EMBEDDING, asked)
        np.testing.assert_array_equal(answer[0], expected[0])
        np.testing.assert_array_equal(answer[1], expected[1])
    assert decoder.calls == 1


@pytest.mark.parametrize(
    "change",
    [
        {"iou_threshold": 0.1},
        {"choice": MaskChoice.BEST_OF_THREE},
        {"mask_prompt": MaskPrompt.TRIDENT},
        {"low_res_size": (1, 2)},
        {"point_coords": np.ones((3, 3, 2), np.float32)},
        {"mask_prompts": np.ones((1, 1, 256, 256), np.float32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_memo_asks_what_was_not_asked(decoder, change):
    memo = DecoderMemo(decoder.decode)
    memo.decode(EMBEDDING, PROMPTS)
    low_res_logits, _ = memo.decode(EMBEDDING, replace(PROMPTS, **change))
    assert decoder.calls == 2
    assert len(low_res_logits) == (3 if "iou_threshold" in change else 2)


def test_memo_forgets_with_the_next_image(decoder):
    memo = DecoderMemo(decoder.decode)
    for embedding in (EMBEDDING, EMBEDDING + 1, EMBEDDING):
        memo.decode(embedding, PROMPTS)
    assert decoder.calls == 3
