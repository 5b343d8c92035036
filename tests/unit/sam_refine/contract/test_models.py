"""Models as data."""

from sam_refine.contract import MODELS


def test_models_have_distinct_names_and_tensors():
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    for model in MODELS:
        tensors = [*model.input_names, *model.output_names]
        assert len(set(tensors)) == len(tensors)
