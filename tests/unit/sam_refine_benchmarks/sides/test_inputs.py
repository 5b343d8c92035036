from __future__ import annotations

import numpy as np
import pytest

from sam_refine_benchmarks.sides import inputs


@pytest.mark.parametrize(("height", "width"), [(36, 48), (20, 90), (90, 20), (1, 16)])
def test_photo_has_the_size_asked_for(height, width):
    assert inputs.photo(height, width).shape == (height, width, 3)


def test_unseen_images_differ_from_each_other_in_few_pixels():
    image = inputs.photo(12, 16)
    first, second = inputs.unseen(image), inputs.unseen(image)
    assert (first != second).any()
    assert (first[1:] == image[1:]).all()


def test_unseen_narrow_image_differs_too():
    image = inputs.photo(16, 3)
    assert (inputs.unseen(image) != inputs.unseen(image)).any()


@pytest.mark.parametrize(
    "scores",
    [inputs.photo_scores(inputs.photo(60, 80), 5, 15, 20), inputs.noise_scores(5, 15, 20, 4)],
    ids=["photo", "noise"],
)
def test_scores_are_probabilities_of_every_class(scores):
    assert scores.shape == (5, 15, 20)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=0), 1, atol=1e-5)
    assert set(scores.argmax(axis=0).ravel()) == set(range(5))


def test_mask_logits_are_positive_inside_their_box():
    boxes = np.array([[10, 20, 29, 39], [40, 5, 41, 6]], np.int32)
    logits = inputs.mask_logits(boxes, (50, 100))
    assert logits.shape == (2, 256, 256)
    inside = logits[:, int(29.5 * 2.56), int(19.5 * 2.56)] > 0
    assert inside.tolist() == [True, False]
    assert 0.1 < (logits[0] > 0).sum() / 51.2**2 < 1.2


def test_decoder_prompts_of_a_class_are_neighbours():
    prompts = inputs.decoder_prompts(10, 3)
    assert prompts.mask_index.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert prompts.point_coords.shape == (10, 3, 2)
    assert prompts.mask_prompts.shape == (3, 1, 256, 256)
