import io
import tarfile
import zipfile

import onnx
import pytest
import torch

from sam_refine_export import ExportError, ExportOptions
from sam_refine_export.weights.files import checkpoint_file, is_safetensors, require_checkpoint
from support.tiny_models import batch_size_network

LFS_POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912
size 375042383
"""


def saved(content=None):
    buffer = io.BytesIO()
    torch.save(content or {"a": torch.zeros(1000)}, buffer)
    return buffer.getvalue()


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"content")
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("sam.pth"))
    return buffer.getvalue()


def scripted():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Identity()), buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "is empty: perhaps a download that failed; fetch it again"),
        (LFS_POINTER.encode, "is a Git LFS pointer, .*: run `git lfs pull` where it was cloned"),
        (lambda: b"<!DOCTYPE html><html>", "is a web page, no checkpoint: .* the file itself"),
        (lambda: b"\n <html lang='en'>", "is a web page, no checkpoint"),
        (lambda: b'{"error": "not found"}', "is text, no checkpoint"),
        (lambda: saved()[:-1], "is cut short: its end is missing; fetch or copy it again"),
        (lambda: zipped("folder/sam.pth"), "is a zip archive, no PyTorch checkpoint: unpack it"),
        (
            lambda: b"\x89HDF\r\n\x1a\n" + bytes(90),
            r"is HDF5 \(Keras\), no PyTorch checkpoint: give",
        ),
        (lambda: b"GGUF" + bytes(90), "is GGUF, no PyTorch checkpoint"),
        (tarred, "is an archive: unpack it and give the checkpoint in it"),
        (scripted, r"is TorchScript, which holds code: .*torch\.jit\.load\(\.\.\.\)\.state_dict"),
        (
            lambda: onnx.helper.make_model(
                batch_size_network().graph, producer_name="pytorch"
            ).SerializeToString(),
            "is an ONNX graph, .*: give the PyTorch checkpoint that it was made of",
        ),
    ],
)
def test_require_checkpoint_says_what_another_file_is(tmp_path, content, message):
    path = tmp_path / "sam.pth"
    path.write_bytes(content())
    with pytest.raises(ExportError, match=rf"/sam\.pth {message}"):
        require_checkpoint(path)


def test_require_checkpoint_knows_onnx_by_its_name_too(tmp_path):
    path = tmp_path / "sam.onnx"
    path.write_bytes(b"\x80anything")
    with pytest.raises(ExportError, match="is an ONNX graph"):
        require_checkpoint(path)


@pytest.mark.parametrize("zip_file", [True, False])
def test_require_checkpoint_lets_checkpoints_pass(tmp_path, zip_file):
    path = tmp_path / "sam.pth"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=zip_file)
    require_checkpoint(path)
    assert not is_safetensors(path)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["config.json", "model.safetensors", "pytorch_model.bin"], "model.safetensors"),
        (["pytorch_model.bin", "optimizer.pt"], "pytorch_model.bin"),
        (["README.md", "epoch_3.ckpt"], "epoch_3.ckpt"),
    ],
)
def test_checkpoint_file_of_a_folder_is_the_one_in_it(tmp_path, files, found):
    for name in files:
        (tmp_path / name).touch()
    assert checkpoint_file(tmp_path) == tmp_path / found
    assert ExportOptions(checkpoint=tmp_path).checkpoint == tmp_path / found


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["README.md"],
            r"holds no checkpoint: no model\.safetensors, and no file that ends in \.b",
        ),
        (["a.pth", "b.pt"], r"holds several checkpoints, name one: a\.pth, b\.pt$"),
        (
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors"],
            r"is in several pieces \(model\.safetensors\.index\.json\): load it with transformers",
        ),
    ],
)
def test_checkpoint_file_of_a_folder_without_one_says_so(tmp_path, files, message):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ExportError, match=message):
        checkpoint_file(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors.index.json",
        "pytorch_model-00001-of-00002.bin",
        "model-00002-of-00002.safetensors",
    ],
)
def test_checkpoint_file_that_is_a_piece_of_one_says_so(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ExportError, match="is one of several pieces of a checkpoint: load it with"):
        checkpoint_file(tmp_path / name)


def test_checkpoint_that_is_named_safetensors_is_known_by_its_content(tmp_path):
    path = tmp_path / "sam.safetensors"
    path.write_bytes(saved())
    assert not is_safetensors(path)


def test_checkpoint_file_takes_an_ending_in_capitals(tmp_path):
    (tmp_path / "SAM.PTH").write_bytes(saved())
    assert checkpoint_file(tmp_path) == tmp_path / "SAM.PTH"
