import argparse
import pathlib
import pickle
import sys
import types
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam_refine_export import ExportError
from sam_refine_export.weights.checkpoint import read_state


class OfAnotherSystem:
    """A path as Windows pickles it."""

    def __reduce__(self):
        return (pathlib.WindowsPath, ("C:\\", "runs", "1"))


class Harmful:
    """What a checkpoint must not be able to do."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a checkpoint ran code')",))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1.0, float("nan")]),
        torch.tensor([float("-inf")], dtype=torch.float16),
        torch.tensor([1e300], dtype=torch.float64),
    ],
)
def test_read_state_values_that_are_not_finite_are_refused_by_key(tmp_path, tensor):
    path = tmp_path / "wild.pth"
    torch.save({"fine": torch.ones(3), "count": torch.tensor(3), "wild": tensor}, path)
    message = r"wild\.pth has values that are not finite in float32: wild$"
    with pytest.raises(ExportError, match=message):
        read_state(path)


def test_read_state_keeps_every_dtype_and_empty_tensors(tmp_path):
    path = tmp_path / "mixed.pth"
    state = {"a": torch.ones(3).half(), "b": torch.tensor(3), "c": torch.zeros(0, 4)}
    torch.save(state, path)
    read = read_state(path)
    assert read.keys() == state.keys()
    for key, tensor in state.items():
        assert read[key].dtype == tensor.dtype
        assert torch.equal(read[key], tensor)


@pytest.fixture
def damaged(tmp_path):
    """A checkpoint with one bit flipped in the middle of its only large tensor."""
    path = tmp_path / "damaged.pth"
    torch.save({"a": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_read_state_damaged_tensor_is_refused_though_torch_takes_it(damaged):
    tensor = torch.load(damaged, weights_only=True)["a"]
    assert (tensor != 1).sum() == 1
    message = r"^\S+/damaged\.pth is damaged: its record damaged/data/0 has another checksum$"
    with pytest.raises(ExportError, match=message):
        read_state(damaged)


def test_read_state_file_without_checksums_is_read(tmp_path):
    path = tmp_path / "unchecked.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(1000)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_state(path)["a"], torch.ones(1000))


def test_read_state_file_of_before_zip_archives_is_read(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(path)["a"], torch.ones(1000))


def test_read_state_damaged_anywhere_is_refused_or_read_right(tmp_path):
    path = tmp_path / "some.pth"
    state = {"a": torch.full((20,), 0.5), "b.c": torch.ones(3)}
    torch.save(state, path)
    content = path.read_bytes()
    for position in range(0, content.index(b"PK\x01\x02"), 37):  # up to the table of contents
        changed = bytes([content[position] ^ 0x55])
        path.write_bytes(content[:position] + changed + content[position + 1 :])
        with suppress(ExportError):  # and no other error
            read = read_state(path)
            assert all(torch.equal(read[key], tensor) for key, tensor in state.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_read_state_cut_anywhere_is_refused(tmp_path, zipped):
    path = tmp_path / "some.pth"
    torch.save({"a": torch.ones(20)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in range(0, len(content), 37):
        path.write_bytes(content[:size])
        with pytest.raises(
            ExportError, match=r"some\.pth (is|cannot be read as a PyTorch)"
        ) as caught:
            read_state(path)
        if zipped and size >= 37:
            assert "is cut short: its end is missing" in str(caught.value)


def write_bad_name(path):
    torch.save({"image_encoder": torch.zeros(1)}, path)
    path.write_bytes(path.read_bytes().replace(b"image_encoder", b"image\xffencoder"))


def write_code(path):
    path.write_bytes(pickle.dumps(OrderedDict(a=Harmful()), protocol=2))


def write_code_beside_tensors(path):
    torch.save({"model": {"a": torch.ones(3)}, "callback": Harmful()}, path)


def write_whole_module(path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            write_code,
            "cannot be read as a PyTorch checkpoint: it is damaged, is something else, or",
        ),
        (
            write_code_beside_tensors,
            r"holds code beside tensors, which is not run: builtins\.exec\.",
        ),
        (write_whole_module, r".* not run: torch\.nn\.modules.*Linear.* save the parameters alone"),
    ],
)
def test_read_state_what_is_no_tensors_is_refused_and_not_run(tmp_path, write, message):
    path = tmp_path / "bad.pth"
    write(path)
    with pytest.raises(ExportError, match=rf"bad\.pth {message}"):
        read_state(path)


def test_read_state_checkpoint_of_ultralytics_is_said_to_be_one(tmp_path, monkeypatch):
    tasks = types.ModuleType("ultralytics.nn.tasks")
    network = type("SegmentationModel", (), {"__module__": tasks.__name__})
    monkeypatch.setattr(tasks, network.__name__, network, raising=False)
    for name in ("ultralytics", "ultralytics.nn", tasks.__name__):
        monkeypatch.setitem(sys.modules, name, tasks)
    torch.save({"model": network(), "epoch": -1}, tmp_path / "FastSAM-s.pt")
    with pytest.raises(ExportError, match=r"is a checkpoint of Ultralytics \(YOLO, FastSAM\)"):
        read_state(tmp_path / "FastSAM-s.pt")


def test_read_state_paths_of_other_systems_are_no_code(tmp_path):
    path = tmp_path / "training.pth"
    torch.save({"model": {"a": torch.ones(3)}, "best": OfAnotherSystem()}, path)
    assert torch.equal(read_state(path)["a"], torch.ones(3))


def test_read_state_plain_values_of_training_are_no_code(tmp_path):
    path = tmp_path / "training.pth"
    options = argparse.Namespace(lr=1e-4, output=Path("runs/1"))
    state = {"a": torch.ones(3)}
    torch.save({"model": state, "args": options, "best": np.float64(0.9), "epoch": 3}, path)
    assert torch.equal(read_state(path)["a"], torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_read_state_safetensors_are_read(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3, dtype=dtype)}, path)
    renamed = path.rename(tmp_path / "model.bin")
    for _ in range(2):  # known by its content, and by its name
        assert torch.equal(read_state(renamed)["a"], torch.ones(3, dtype=dtype))
        renamed = renamed.rename(path)


@pytest.mark.parametrize("size", [4, 40, 100])
def test_read_state_safetensors_cut_are_refused(tmp_path, size):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(30)}, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ExportError, match=r"safetensors cannot be read as a safetensors file: "):
        read_state(path)
