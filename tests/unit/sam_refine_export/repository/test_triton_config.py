import shutil

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER, SAM_REFINE
from sam_refine_export import Device
from sam_refine_export.repository.template import template
from sam_refine_export.repository.triton_config import fit_configs, fitted


def fit(spec, max_batch_size=8, device=Device.AUTO):
    text = (template() / spec.name / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(
        fitted(text, spec, max_batch_size, device), model_config_pb2.ModelConfig()
    )


def test_fitted_encoder_batches_as_far_as_it_was_exported_for():
    config = fit(SAM_IMAGE_ENCODER, max_batch_size=3)
    assert config.max_batch_size == 3
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


def test_fitted_decoder_has_no_batch_axis_of_triton():
    config = fit(SAM_MASK_DECODER, max_batch_size=3)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")


@pytest.mark.parametrize(
    "path", sorted(template().glob("*/config.pbtxt")), ids=lambda path: path.parent.name
)
def test_only_what_callers_call_has_a_bounded_queue(path):
    """Triton leaves calls of a model lying that has one: docs/decisions/0008-queues.md."""
    config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    is_bounded = config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert is_bounded == (path.parent.name == SAM_REFINE.name)


@pytest.mark.parametrize("spec", [SAM_IMAGE_ENCODER, SAM_MASK_DECODER], ids=lambda spec: spec.name)
@pytest.mark.parametrize(
    ("device", "kind"), [("auto", "KIND_AUTO"), ("cpu", "KIND_CPU"), ("gpu", "KIND_GPU")]
)
def test_fitted_instance_is_one_of_the_kind_asked_for(spec, device, kind):
    (group,) = fit(spec, device=Device(device)).instance_group
    assert group.count == 1
    assert model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind) == kind


@pytest.mark.parametrize("spec", [SAM_IMAGE_ENCODER, SAM_MASK_DECODER], ids=lambda spec: spec.name)
def test_fitted_warm_up_has_every_input_of_the_contract(spec):
    (sample,) = fit(spec).model_warmup
    assert sample.batch_size == 1
    assert {
        name: (model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims))
        for name, tensor in sample.inputs.items()
    } == {
        tensor.name: (f"TYPE_{tensor.datatype}", [abs(size) for size in tensor.dims])
        for tensor in spec.inputs
    }


@pytest.mark.parametrize(("max_batch_size", "warmed_up"), [(8, [1, 8]), (1, [1])])
def test_fitted_gpu_warms_up_the_largest_batch_too(max_batch_size, warmed_up):
    config = fit(SAM_IMAGE_ENCODER, max_batch_size, Device.GPU)
    assert [sample.batch_size for sample in config.model_warmup] == warmed_up
    assert [s.batch_size for s in fit(SAM_MASK_DECODER, 8, Device.GPU).model_warmup] == [1]


def test_fitted_template_without_the_line_is_an_error():
    with pytest.raises(ValueError, match=r"has 0 lines that match \^max_batch_size"):
        fitted("max_batch_size: 1 # one", SAM_IMAGE_ENCODER, 8, Device.AUTO)


def test_fit_configs_writes_those_of_both_graphs_and_no_other(tmp_path):
    for spec in (SAM_IMAGE_ENCODER, SAM_MASK_DECODER, SAM_REFINE):
        (tmp_path / spec.name).mkdir()
        shutil.copyfile(
            template() / spec.name / "config.pbtxt", tmp_path / spec.name / "config.pbtxt"
        )
    fit_configs(tmp_path, 5, Device.CPU)
    written = {
        spec: (tmp_path / spec.name / "config.pbtxt").read_text(encoding="utf-8")
        for spec in (SAM_IMAGE_ENCODER, SAM_MASK_DECODER, SAM_REFINE)
    }
    given = {
        spec: (template() / spec.name / "config.pbtxt").read_text(encoding="utf-8")
        for spec in written
    }
    assert written == {
        SAM_IMAGE_ENCODER: fitted(given[SAM_IMAGE_ENCODER], SAM_IMAGE_ENCODER, 5, Device.CPU),
        SAM_MASK_DECODER: fitted(given[SAM_MASK_DECODER], SAM_MASK_DECODER, 5, Device.CPU),
        SAM_REFINE: given[SAM_REFINE],
    }
