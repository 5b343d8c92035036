import tracemalloc

import numpy as np
import pytest

from sam_refine.algorithm.predict import batch_size, no_predictions, predict
from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import Limits, MaskPrompt
from sam_refine.numerics.arrays import to_numpy


def prompts_of(count, iou_threshold=0.5):
    return Prompts(
        np.arange(count * 6, dtype=np.float32).reshape(count, 3, 2),
        np.ones((count, 3), np.float32),
        np.zeros((1, 1, 256, 256), np.float32),
        np.zeros(count, np.int64),
        MaskPrompt.SAM,
        False,
        iou_threshold,
        (132, 256),
    )


@pytest.mark.parametrize(
    ("free_bytes", "expected"),
    [(0, 1), (249_999_999, 1), (500_000_000, 2), (4e9, 16), (8e9, 32), (1e12, 32)],
)
def test_batch_size_is_one_prompt_for_a_quarter_of_a_gigabyte(free_bytes, expected):
    assert batch_size(int(free_bytes), Limits.bytes_per_prompt) == expected


def test_batch_size_as_listed_reckons_with_three_gigabytes_a_prompt():
    assert [batch_size(free_bytes, 3 * 10**9) for free_bytes in (10**9, 7 * 10**9)] == [1, 2]


def test_predict_decodes_full_batches_in_order_and_keeps_what_passes(library):
    sizes = []

    def decode(embedding, prompts):
        sizes.append(len(prompts))
        ious = prompts.point_coords[:, 0, :1] / 100
        kept = ious[ious > np.float32(prompts.iou_threshold)]
        masks = np.broadcast_to(kept[:, None, None, None], (len(kept), 1, *prompts.low_res_size))
        return library(masks.copy()), library(ious)

    predictions = predict(np.zeros(1), prompts_of(7, iou_threshold=0.18), decode, 3)
    assert sizes == [3, 3, 1]
    np.testing.assert_allclose(predictions.ious, np.arange(7) * 0.06, atol=1e-6)
    assert predictions.kept.tolist() == [False] * 4 + [True] * 3
    masks = to_numpy(predictions.low_res_logits)
    assert masks.shape == (3, 132, 256)
    np.testing.assert_allclose(masks[:, 0, 0], [0.24, 0.30, 0.36], atol=1e-6)


def test_predict_keeps_strictly_greater_ious_only():
    def decode(embedding, prompts):
        return np.zeros((0, 1, 256, 256), np.float32), np.full((len(prompts), 1), 0.5)

    assert not predict(np.zeros(1), prompts_of(2), decode, 8).kept.any()


def test_predict_keeps_no_mask_twice():
    def decode(embedding, prompts):
        return np.ones((len(prompts), 1, 256, 256), np.float32), np.ones((len(prompts), 1))

    tracemalloc.start()
    try:
        masks = predict(np.zeros(1), prompts_of(32), decode, 2).low_res_logits
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1.25 * masks.nbytes


def test_no_predictions_has_the_shapes_of_nothing():
    nothing = no_predictions()
    assert (nothing.ious.shape, nothing.kept.shape) == ((0,), (0,))
    assert nothing.low_res_logits.shape == (0, 256, 256)
