import numpy as np
import pytest
import torch
from torch import nn

from sam_refine_export.graphs.image_encoder import ImageEncoder


@pytest.mark.parametrize("size_hw", [(8, 8), (5, 8), (8, 3), (1, 1)])
def test_image_encoder_normalises_then_pads_with_zeros(size_hw):
    canvas = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    height, width = size_hw
    expected = np.zeros((3, 8, 8), np.float32)
    for channel, (mean, std) in enumerate([(123.675, 58.395), (116.28, 57.12), (103.53, 57.375)]):
        image = canvas[0, :height, :width, channel].astype(np.float32)
        expected[channel, :height, :width] = (image - np.float32(mean)) / np.float32(std)
    found = ImageEncoder(nn.Identity())(torch.from_numpy(canvas), torch.tensor([size_hw]))
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy()[0], expected)


def test_image_encoder_batch_takes_each_canvas_at_its_own_size():
    canvas = torch.full((2, 4, 4, 3), 200, dtype=torch.uint8)
    found = ImageEncoder(nn.Identity())(canvas, torch.tensor([[4, 2], [1, 4]]))
    assert (found[0, 0] != 0).tolist() == [[True, True, False, False]] * 4
    assert (found[1, 0] != 0).tolist() == [[True] * 4, *[[False] * 4] * 3]
