"""Tensors and models as data."""

import numpy as np

from sam_refine.contract import MODELS, SAM_REFINE


def test_tensor_spec_dims_have_minus_one_for_sizes_that_vary():
    image = next(spec for spec in SAM_REFINE.inputs if spec.name == "IMAGE")
    assert (image.dims, image.dtype) == ((-1, -1, 3), np.uint8)


def test_models_have_distinct_names_and_tensors():
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    for model in MODELS:
        tensors = [*model.input_names, *model.output_names]
        assert len(set(tensors)) == len(tensors)
