import numpy as np
import pytest
import torch

from sam_refine.contract import MaskPrompt, RefineOptions
from sam_refine.prompts import mask_prompt, transform_points, transform_prompts
from sam_refine.regions import Regions
from support import straight


def regions_of(classes):
    count = len(classes)
    boxes = np.arange(4 * count).reshape(count, 4).astype(np.int32)
    return Regions(
        np.array(classes, np.int32),
        boxes,
        boxes[:, :2] + 1,
        np.ones(count, np.float32),
        np.zeros((30, 40), np.int32),
    )


def grid_scores(classes=5):
    return np.random.default_rng(0).random((classes, 30, 40), np.float32)


def prompts_of(classes, **options):
    return transform_prompts(regions_of(classes), grid_scores(), (61, 80), RefineOptions(**options))


def test_transform_points_scales_to_the_canvas_of_the_grid():
    points = transform_points(np.array([[0, 0], [39, 29], [20, 15]]), (30, 40))
    np.testing.assert_allclose(points, [[0, 0], [39 * 25.6, 29 * 25.6], [512, 384]])
    assert points.dtype == np.float32


def test_transform_prompts_asks_with_one_point_and_one_box_each():
    prompts = prompts_of([0, 3])
    assert prompts.point_labels.tolist() == [[1, 2, 3], [1, 2, 3]]
    np.testing.assert_allclose(
        prompts.point_coords[1], np.array([[5, 6], [4, 5], [6, 7]]) * 25.6, rtol=1e-6
    )


def test_transform_prompts_shares_a_class_s_mask_prompt():
    prompts = prompts_of([0, 0, 3, 3, 3], mask_prompt="sam")
    assert prompts.mask_prompts.shape == (2, 1, 256, 256)
    assert prompts.mask_index.tolist() == [0, 0, 1, 1, 1]


def test_transform_prompts_without_mask_prompt_names_one_zero_mask():
    prompts = prompts_of([0, 3], mask_prompt=MaskPrompt.NONE)
    assert prompts.mask_prompts.shape == (1, 1, 256, 256)
    assert not prompts.mask_prompts.any()
    assert prompts.mask_index.tolist() == [0, 0]
    assert prompts.decoder_inputs()["mask_prompt_mode"].tolist() == [0]


def test_batch_takes_only_the_mask_prompts_that_it_names():
    prompts = prompts_of([0, 1, 1, 3])
    batch = prompts.batch(1, 4)
    assert batch.mask_index.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(batch.mask_prompts, prompts.mask_prompts[[1, 2]])
    np.testing.assert_array_equal(batch.point_coords, prompts.point_coords[1:])


@pytest.mark.parametrize("size", [(60, 80), (81, 60), (61, 200), (1, 90)])
@pytest.mark.parametrize("tau_c", [0.0, 0.6])
def test_mask_prompt_equals_the_straight_one(size, tau_c):
    scores = grid_scores()[0]
    options = RefineOptions(confidence_threshold=tau_c, mask_prompt_scale=0.01)
    expected = straight.mask_prompt(torch.as_tensor(scores), size, options).numpy()
    np.testing.assert_allclose(mask_prompt(scores, size, options), expected, atol=1e-7)
