import pickle
from collections import OrderedDict
from contextlib import suppress

import pytest
import torch

from sam_refine_export import ExportError
from sam_refine_export.weights.checkpoint import read_state


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
        with pytest.raises(ExportError, match=r"some\.pth cannot be read as a PyTorch checkpoint$"):
            read_state(path)


def write_text(path):
    path.write_text("no checkpoint", encoding="utf-8")


def write_cut(path):
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:1000])


def write_code(path):
    path.write_bytes(pickle.dumps(OrderedDict(a=Harmful()), protocol=2))


@pytest.mark.parametrize("write", [write_text, write_cut, write_code])
def test_read_state_unreadable_file_is_refused(tmp_path, write):
    path = tmp_path / "bad.pth"
    write(path)
    with pytest.raises(ExportError, match=r"bad\.pth cannot be read as a PyTorch checkpoint"):
        read_state(path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"model": {"a": torch.zeros(1)}},
        {1: torch.zeros(1)},
        {"sparse": torch.zeros(3).to_sparse()},
        {"without_values": torch.zeros(3, device="meta")},
    ],
)
def test_read_state_other_content_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ExportError, match="holds no plain mapping of names to tensors"):
        read_state(path)
