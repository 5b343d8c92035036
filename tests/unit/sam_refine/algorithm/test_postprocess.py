import numpy as np
import pytest
import torch

from sam_refine.algorithm import postprocess
from sam_refine.algorithm.postprocess import MaskPostprocessor, low_res_size
from sam_refine.numerics.arrays import Window, full_window, to_numpy
from sam_refine_benchmarks.sides import straight
from support import exact
from support.drawings import columns_drawn_in

SIZES = [(64, 64), (360, 480), (101, 67), (1500, 1024), (1, 1), (1, 40), (33, 2), (3000, 1)]


def smooth_logits(seed):
    coarse = torch.randn(1, 9, 9, generator=torch.Generator().manual_seed(seed))
    return exact.interpolate(coarse, (256, 256))[0].numpy() * 8


@pytest.mark.parametrize("size", SIZES)
def test_logits_of_the_whole_image_equal_the_two_resizes(library, size):
    low_res = smooth_logits(seed=size[0])
    masks = torch.as_tensor(low_res)[None]
    expected = straight.postprocess_masks(masks, size, exact.EXACT)[0].numpy()
    masks = library(low_res)
    logits = MaskPostprocessor.of(size, masks).logits(masks, full_window(size))
    np.testing.assert_allclose(to_numpy(logits), expected, atol=3e-5)


@pytest.mark.parametrize("size", SIZES)
def test_logits_of_a_window_equal_that_part(size):
    low_res = smooth_logits(seed=1)
    window = Window(*(slice(side // 3, side // 3 + max(1, side // 2)) for side in size))
    postprocessor = MaskPostprocessor.of(size, low_res)
    np.testing.assert_allclose(
        postprocessor.logits(low_res, window),
        postprocessor.logits(low_res, full_window(size))[window],
        atol=1e-5,
    )


@pytest.mark.parametrize("size", SIZES)
def test_low_res_size_is_all_that_pixels_are_made_of(size):
    height, width = low_res_size(size)
    assert height % 4 == width % 4 == 0
    masks = np.where(np.indices((256, 256)) < [[[height]], [[width]]], 1, np.nan).min(axis=0)
    assert np.isfinite(masks).sum() == height * width
    part = masks[:height, :width]
    postprocessor = MaskPostprocessor.of(size, part)
    assert np.isfinite(postprocessor.logits(part, full_window(size))).all()
    for smaller in (masks[: height - 4, :width], masks[:height, : width - 4]):
        with pytest.raises(ValueError, match="matmul"):
            postprocessor.logits(smaller, full_window(size))


def drawn(*cells):
    """A mask that is positive in some cells."""
    mask = np.full((256, 256), -5, np.float32)
    for cell in cells:
        mask[cell] = 300.0
    return mask


@pytest.mark.parametrize("size", SIZES)
def test_positive_windows_hold_every_positive_pixel(library, size):
    masks = np.stack(
        [drawn((0, 0)), drawn((255, 255)), drawn((40, 90), (44, 93)), drawn((128, 0)), drawn()] * 4
    )
    postprocessor = MaskPostprocessor.of(size, masks)
    windows = MaskPostprocessor.of(size, library(masks)).positive_windows(library(masks))
    assert windows.shape == (20, 2, 2)
    for mask, (rows, columns) in zip(masks, windows, strict=True):
        positive = postprocessor.logits(mask, full_window(size)) > 0
        inside = positive[slice(*rows), slice(*columns)]
        assert inside.sum() == positive.sum()


def test_positive_windows_are_as_drawn():
    mask, expected = columns_drawn_in(postprocess)
    low_res = np.where(np.kron(mask == "#", np.ones((32, 32))), 6, -6)[None].astype(np.float32)
    postprocessor = MaskPostprocessor.of((8, 8), low_res)
    ((rows, columns),) = postprocessor.positive_windows(low_res)
    window = np.full((8, 8), ".")
    window[slice(*rows), slice(*columns)] = "+"
    np.testing.assert_array_equal(window, expected)
    logits = postprocessor.logits(low_res[0], full_window((8, 8)))
    np.testing.assert_array_equal(logits > 0, mask == "#")


@pytest.mark.parametrize("size", SIZES)
def test_positive_windows_reach_no_further_than_the_cells_weigh(size):
    masks = np.stack([drawn((0, 0)), drawn((40, 90), (44, 93)), drawn((3, 7), (70, 2))])
    postprocessor = MaskPostprocessor.of(size, masks)
    for mask, (rows, columns) in zip(masks, postprocessor.positive_windows(masks), strict=True):
        spans = [np.flatnonzero((mask > 0).any(axis=axis)) for axis in (1, 0)]
        axes = postprocessor.vertical, postprocessor.horizontal
        for axis, cells, (start, stop) in zip(axes, spans, (rows, columns), strict=True):
            weighs = axis.matrix[:, cells[0] : cells[-1] + 1].any(axis=1)
            assert weighs.sum() == stop - start
            assert weighs[start:stop].all()


def test_positive_windows_of_masks_without_positive_values_are_empty(library):
    masks = library(np.zeros((3, 256, 256), np.float32))
    windows = MaskPostprocessor.of((30, 40), masks).positive_windows(masks)
    assert (windows[..., 0] == windows[..., 1]).all()


def test_positive_windows_of_no_masks_are_none(library):
    masks = library(np.empty((0, 256, 256), np.float32))
    assert MaskPostprocessor.of((30, 40), masks).positive_windows(masks).shape == (0, 2, 2)


def test_positive_windows_in_the_padding_are_empty(library):
    masks = np.full((1, 256, 256), -1, np.float32)
    masks[0, 250] = 1  # a 30 x 90 image fills the upper third only
    windows = MaskPostprocessor.of((30, 90), library(masks)).positive_windows(library(masks))
    assert windows[0, 0, 0] == windows[0, 0, 1]
