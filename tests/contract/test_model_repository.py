"""Every `config.pbtxt` is held to `sam_refine.contract`."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from sam_refine.contract import (
    MODELS,
    NETWORKS_SHA256,
    SAM_MASK_JUDGE,
    SAM_PREPROCESS,
    SAM_REFINE,
    ArrayLibrary,
    Limits,
    ModelSpec,
)

REPOSITORY = Path(__file__).parents[2] / "model_repository"
DATATYPES = {"BYTES": "TYPE_STRING"}


def read_config(model: ModelSpec) -> model_config_pb2.ModelConfig:
    text = (REPOSITORY / model.name / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def tensors_of(specs):
    return [
        (spec.name, DATATYPES.get(spec.datatype, f"TYPE_{spec.datatype}"), list(spec.dims))
        for spec in specs
    ]


def configured(tensors):
    return [
        (tensor.name, model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims))
        for tensor in tensors
    ]


def test_repository_holds_the_models_of_the_contract():
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir()}
    assert folders == {model.name for model in (*MODELS, SAM_MASK_JUDGE)}


@pytest.mark.parametrize("model", [*MODELS, SAM_MASK_JUDGE], ids=lambda model: model.name)
def test_config_has_the_contract_s_tensors(model):
    config = read_config(model)
    assert configured(config.input) == tensors_of(model.inputs)
    assert configured(config.output) == tensors_of(model.outputs)
    assert [tensor.optional for tensor in config.input] == [spec.optional for spec in model.inputs]
    assert (config.max_batch_size > 0) == model.batched


def test_config_of_the_ensemble_connects_models_of_the_contract():
    models = {model.name: model for model in MODELS}
    steps = read_config(models["sam_embed"]).ensemble_scheduling.step
    assert [step.model_name for step in steps] == ["sam_preprocess", "sam_image_encoder"]
    for step in steps:
        assert set(step.input_map) == set(models[step.model_name].input_names)
        assert set(step.output_map) == set(models[step.model_name].output_names)


def test_config_of_the_ensemble_feeds_no_step_with_one_of_its_outputs():
    """Triton fails every request for a subset of outputs where it does."""
    config = read_config(next(model for model in MODELS if model.name == "sam_embed"))
    fed = {tensor for step in config.ensemble_scheduling.step for tensor in step.input_map.values()}
    assert fed.isdisjoint(output.name for output in config.output)


@pytest.mark.parametrize("model", [SAM_REFINE, SAM_PREPROCESS], ids=lambda model: model.name)
def test_config_parameters_are_known_and_at_their_defaults(model):
    written = {name: value.string_value for name, value in read_config(model).parameters.items()}
    limits = set(Limits.__dataclass_fields__)
    assert Limits.from_parameters(written) == Limits()
    if model is SAM_REFINE:
        assert set(written) == limits | {"array_library", NETWORKS_SHA256}
        assert written[NETWORKS_SHA256] == ""
        assert ArrayLibrary.from_parameters(written) is ArrayLibrary.NUMPY
    else:
        assert set(written) < limits


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_config_runs_on_machines_without_a_gpu(model):
    for group in read_config(model).instance_group:
        assert group.kind != model_config_pb2.ModelInstanceGroup.KIND_GPU
        assert group.count >= 1
