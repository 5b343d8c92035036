import os

import pytest

from sam_refine_export import Device, ExportError, ExportOptions, Model, Precision


def test_export_options_default_is_mobile_sam_in_float32_wherever_triton_can():
    options = ExportOptions()
    assert options.model is Model.MOBILE
    assert options.precision is Precision.FP32
    assert options.device is Device.AUTO
    assert options.encoder_max_batch_size(Model.MOBILE) == 8


def test_export_options_plain_strings_become_members(tmp_path):
    (tmp_path / "some.pth").touch()
    options = ExportOptions("vit_h", tmp_path / "some.pth", "fp16", "gpu", max_batch_size=5)
    assert options.model is Model.VIT_H
    assert options.precision is Precision.FP16
    assert options.device is Device.GPU
    assert options.encoder_max_batch_size(Model.VIT_H) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "vit_x"}, "^model must be one of mobile, vit_b, vit_l, vit_h, got 'vit_x'$"),
        ({"precision": "int8"}, "^precision must be one of fp32, fp16, got 'int8'$"),
        ({"device": "tpu"}, "^device must be one of auto, cpu, gpu, got 'tpu'$"),
        ({"max_batch_size": 0}, "^max_batch_size must be a whole number from 1 to 64, got 0$"),
        ({"max_batch_size": 65}, "^max_batch_size must be a whole number from 1 to 64, got 65$"),
        ({"max_batch_size": True}, "^max_batch_size must be a whole number .*, got True$"),
        ({"max_batch_size": 2.0}, r"^max_batch_size must be a whole number .*, got 2\.0$"),
        ({"max_batch_size": "4"}, "^max_batch_size must be a whole number .*, got '4'$"),
        ({"checkpoint": 5}, "^checkpoint must be a path, got 5$"),
        ({"checkpoint": os.fsdecode(b"\xff.pth")}, r"^the path '\\udcff\.pth' is not UTF-8$"),
        (
            {"model": "vit_h"},
            "^model vit_h needs a checkpoint: --checkpoint FILE, or --download for Meta's$",
        ),
    ],
)
def test_export_options_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ExportError, match=message):
        ExportOptions(**arguments)


def test_export_options_checkpoint_may_be_a_string(tmp_path):
    (tmp_path / "some.pth").touch()
    assert ExportOptions("vit_b", f"{tmp_path}/some.pth").checkpoint == tmp_path / "some.pth"


def test_export_options_checkpoint_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(
        ExportError, match=r"^the checkpoint .*/missing\.pth is neither a file nor a folder$"
    ):
        ExportOptions("vit_b", tmp_path / "missing.pth")
