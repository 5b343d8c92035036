import numpy as np
import pytest
import torch

from sam_refine.postprocess import MaskPostprocessor
from sam_refine.resize import Window, full_window
from support import straight

SIZES = [(64, 64), (360, 480), (101, 67), (1500, 1024), (1, 1), (1, 40), (33, 2), (3000, 1)]


def smooth_logits(seed):
    coarse = torch.randn(1, 9, 9, generator=torch.Generator().manual_seed(seed))
    return straight.bilinear(coarse, (256, 256))[0].numpy() * 8


@pytest.mark.parametrize("size", SIZES)
def test_logits_of_the_whole_image_equal_the_two_resizes(size):
    low_res = smooth_logits(seed=size[0])
    expected = straight.postprocess_masks(torch.as_tensor(low_res)[None], size)[0].numpy()
    logits = MaskPostprocessor.of(size).logits(low_res, full_window(size))
    np.testing.assert_allclose(logits, expected, atol=3e-5)


@pytest.mark.parametrize("size", SIZES)
def test_logits_of_a_window_equal_that_part(size):
    low_res = smooth_logits(seed=1)
    window = Window(*(slice(side // 3, side // 3 + max(1, side // 2)) for side in size))
    postprocessor = MaskPostprocessor.of(size)
    np.testing.assert_allclose(
        postprocessor.logits(low_res, window),
        postprocessor.logits(low_res, full_window(size))[window],
        atol=1e-5,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cells", [[(0, 0)], [(255, 255)], [(40, 90), (44, 93)], [(128, 0)]])
def test_positive_window_holds_every_positive_pixel(size, cells):
    low_res = np.full((256, 256), -5, np.float32)
    for cell in cells:
        low_res[cell] = 300.0
    postprocessor = MaskPostprocessor.of(size)
    positive = postprocessor.logits(low_res, full_window(size)) > 0
    window = postprocessor.positive_window(low_res)
    assert positive[window].sum() == positive.sum()


def test_positive_window_of_a_mask_without_positive_values_is_empty():
    window = MaskPostprocessor.of((30, 40)).positive_window(np.zeros((256, 256), np.float32))
    assert window.size_hw == (0, 0)


def test_positive_window_in_the_padding_is_empty():
    low_res = np.full((256, 256), -1, np.float32)
    low_res[250] = 1  # a 30 x 90 image fills the upper third only
    assert MaskPostprocessor.of((30, 90)).positive_window(low_res).size_hw[0] == 0
