"""Tensors as data."""

import numpy as np

from sam_refine.contract import TensorSpec


def test_tensor_spec_dims_have_minus_one_for_sizes_that_vary():
    image = TensorSpec("IMAGE", "UINT8", ("H", "W", 3))
    assert (image.dims, image.dtype) == ((-1, -1, 3), np.uint8)
