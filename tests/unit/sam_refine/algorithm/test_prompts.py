import re

import numpy as np
import pytest
import torch

from sam_refine.algorithm import prompts as prompts_module
from sam_refine.algorithm.prompts import mask_prompts, transform_points, transform_prompts
from sam_refine.algorithm.regions import Regions, split_regions
from sam_refine.algorithm.scores import ClassScores, GridScores, grid_size
from sam_refine.contract import MaskPrompt, RefineOptions
from sam_refine.numerics.arrays import to_numpy
from sam_refine_benchmarks.sides import straight
from support import exact
from support.drawings import columns_drawn_in


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


def grid_scores(size_image=(61, 80), low=(15, 20), library=np.asarray):
    values = np.random.default_rng(0).random((5, *low), np.float32)
    return GridScores(ClassScores(library(values), size_image), grid_size(size_image, 2))


def prompts_of(classes, library=np.asarray, **options):
    return transform_prompts(
        regions_of(classes), grid_scores(library=library), RefineOptions(**options)
    )


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


def test_transform_prompts_of_the_region_that_is_drawn():
    (region,) = columns_drawn_in(prompts_module)
    values = np.stack([np.zeros((8, 8)), np.where(region == "P", 0.9, 0.6)]).astype(np.float32)
    scores = GridScores(ClassScores(values, (8, 8)), (8, 8))
    labels = (region != ".").astype(np.int32)
    regions = split_regions(labels, scores, RefineOptions(ignore_label=0), max_regions=1)
    prompts = transform_prompts(regions, scores, RefineOptions())
    numbers = re.findall(r"\(([0-9, ]+)\)", prompts_module.__doc__)
    box, box_model, point, point_model = (list(map(int, text.split(", "))) for text in numbers)
    assert (regions.boxes_xyxy_grid[0].tolist(), regions.points_xy_grid[0].tolist()) == (box, point)
    assert prompts.point_coords[0].ravel().tolist() == [*point_model, *box_model]


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


def test_batch_takes_only_the_mask_prompts_that_it_names(library):
    prompts = prompts_of([0, 1, 1, 3], library)
    batch = prompts.some(slice(1, 4))
    assert type(batch.mask_prompts) is type(library(np.ones(1)))
    assert batch.mask_index.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(
        to_numpy(batch.mask_prompts), to_numpy(prompts.mask_prompts)[[1, 2]]
    )
    np.testing.assert_array_equal(batch.point_coords, prompts.point_coords[1:])


def straight_mask_prompt(scores, class_id, options):
    of_image = scores.image_scores
    (plane,) = exact.bilinear(
        of_image.values[class_id : class_id + 1], of_image.size_image, scores.size_grid
    )
    tensor = torch.as_tensor(plane)
    return straight.mask_prompt(tensor, of_image.size_image, options, exact.EXACT).numpy()


@pytest.mark.parametrize("size", [(60, 80), (81, 60), (61, 200), (1, 90), (700, 512)])
@pytest.mark.parametrize("low", [(1, 20), None])
@pytest.mark.parametrize("tau_c", [0.0, 0.6])
def test_mask_prompts_equal_the_straight_ones(library, size, low, tau_c):
    low = size if low is None else low
    options = RefineOptions(confidence_threshold=tau_c, mask_prompt_scale=0.01)
    scores = grid_scores(size, low, library)
    prompts = to_numpy(mask_prompts(np.array([1, 4]), scores, options))
    expected = [straight_mask_prompt(grid_scores(size, low), i, options) for i in (1, 4)]
    assert prompts.shape == (2, 1, 256, 256)
    np.testing.assert_allclose(prompts[:, 0], expected, atol=1e-7)


def test_mask_prompts_leave_out_a_plateau_at_the_threshold(library):
    values = library(np.full((1, 13, 9), 0.3, np.float32))
    scores = GridScores(ClassScores(values, (113, 91)), (56, 45))
    options = RefineOptions(confidence_threshold=0.3)
    assert not to_numpy(mask_prompts(np.array([0]), scores, options)).any()


def test_mask_prompts_leave_out_negative_scores():
    scores = GridScores(ClassScores(np.full((1, 5, 4), -0.5, np.float16), (50, 40)), (25, 20))
    assert not mask_prompts(np.array([0]), scores, RefineOptions()).any()
