"""Arrays of files: the one that is in them, never unpickled."""

from __future__ import annotations

import pickle
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from sam_refine.contract import InvalidRequestError
from sam_refine_client.reading.labels import read_labels
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.score_files import load_array
from sam_refine_client.reading.scores import read_scores

SCORES = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
TENSOR = torch.from_numpy(SCORES)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.npy", lambda path: np.save(path, SCORES)),
        ("A.NPY", lambda path: np.save(path.open("wb"), SCORES)),
        ("a.npz", lambda path: np.savez(path, SCORES)),
        ("a.npz", lambda path: np.savez_compressed(path, logits=SCORES)),
        ("a.pt", lambda path: torch.save(TENSOR, path)),
        ("a.pth", lambda path: torch.save({"logits": TENSOR}, path)),
        ("a.pt", lambda path: torch.save({"logits": TENSOR, "epoch": 3}, path)),
        ("a.pt", lambda path: torch.save({"anything": TENSOR}, path)),
        ("a.pt", lambda path: torch.save(TENSOR[None].requires_grad_(), path)),
        ("a.pt", lambda path: torch.save([TENSOR], path)),
        ("a.pt", lambda path: torch.save({"outputs": {"logits": TENSOR[None]}}, path)),
        ("a.pt", lambda path: torch.save({"scores": SCORES, "mean": np.float32(3)}, path)),
        ("a.pt", lambda path: torch.save(TENSOR.to_sparse(), path)),
        ("a.npz", lambda path: np.savez(path, logits=SCORES, labels=SCORES.argmax(0))),
        ("a.npz", lambda path: np.savez(path, probabilities=SCORES, classes=["sky", "tree"])),
        ("a.safetensors", lambda path: save_file({"logits": SCORES, "aux": SCORES}, path)),
    ],
)
def test_array_of_a_file_is_the_scores(tmp_path, name, write):
    write(tmp_path / name)
    scores = read_scores(str(tmp_path / name), Notes(), size_hw=(8, 10), activation="none")
    np.testing.assert_array_equal(scores, SCORES)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npz", lambda path: np.savez(path, a=SCORES, b=SCORES), "one array, got 2: a, b; save"),
        ("a.npz", lambda path: np.savez(path), "must have one array, got 0: none"),
        ("a.npz", lambda path: path.write_bytes(b"PK no"), "must be a .npy file of numbers"),
        ("a.npy", lambda path: path.write_bytes(b"no"), "must be a .npy file of numbers"),
        ("a.npy", lambda path: path.write_bytes(b""), "must be a .npy file of numbers"),
        ("a.npy", lambda path: np.save(path, np.array([Evil()])), "it holds objects"),
        ("a.pt", lambda path: torch.save(Evil(), path), "nothing that runs code"),
        ("a.pt", lambda path: path.write_bytes(b"no"), "must be what torch.save wrote of a tensor"),
        ("a.pt", lambda path: torch.save([TENSOR, TENSOR], path), "a tensor, got list of 2"),
        ("a.pt", lambda path: torch.save({"a": TENSOR, "b": 1}, path), "one array, got 2: a, b"),
        ("a.pt", lambda path: torch.save({"logits": TENSOR, "pred_boxes": 1}, path), "got queries"),
        ("a.pt", lambda path: torch.save(torch.nn.ReLU(), path), "got torch.nn.modules.activation"),
        ("a.pt", lambda path: path.write_bytes(b"<html>"), "code: got a web page; take the link"),
        (
            "a.npz",
            lambda path: np.savez(path, logits=SCORES, scores=SCORES),
            "must have one array, got 2: logits, scores",
        ),
        ("a.npy", lambda path: np.save(path, {"logits": SCORES}), "save the array in them"),
        ("a.npy", lambda path: path.write_bytes(b""), "got an empty file"),
        ("a.npy", lambda path: path.write_bytes(b"<!DOCTYPE html>"), "got a web page"),
        ("a.npy", lambda path: path.write_bytes(b"version https://git-lfs"), "git lfs pull"),
        ("a.npy", lambda path: path.write_bytes(pickle.dumps(SCORES)), "got a pickle, which is no"),
        ("a.csv", lambda path: np.savetxt(path, SCORES[0]), "got text; save the array"),
        ("a.png", lambda path: Image.new("L", (5, 4)).save(path), "got a PNG; if it has labels"),
        ("a.npy", lambda path: path.write_bytes(b"[[[1.0]]]"), "got JSON; save the array"),
    ],
)
def test_file_without_one_array_is_refused_and_not_run(tmp_path, name, write, message, capsys):
    write(tmp_path / name)
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read_scores(tmp_path / name, Notes(), size_hw=(8, 10))
    assert "run" not in capsys.readouterr().out


def test_bfloat16_of_a_safetensors_file_is_read(tmp_path):
    save_torch_file({"logits": TENSOR.bfloat16()}, tmp_path / "a.safetensors")
    assert np.array_equal(load_array(tmp_path / "a.safetensors"), TENSOR.bfloat16().float())


def test_message_of_torch_is_not_passed_on(tmp_path):
    torch.save(torch.nn.ReLU(), tmp_path / "a.pt")
    with pytest.raises(InvalidRequestError) as caught:
        load_array(tmp_path / "a.pt")
    assert "\x1b" not in str(caught.value)
    assert "PyTorch 2.6" not in str(caught.value)


def test_file_cut_short_is_to_be_copied_again(tmp_path):
    np.save(tmp_path / "a.npy", SCORES)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:200])
    with pytest.raises(InvalidRequestError, match=r"is it cut short\? copy it again"):
        load_array(tmp_path / "a.npy")


def test_labels_of_a_file_of_several_arrays_are_those_that_are_called_so(tmp_path):
    labels = SCORES.argmax(0)
    np.savez(tmp_path / "a.npz", labels=labels, logits=SCORES)
    assert np.array_equal(read_labels(tmp_path / "a.npz", Notes()).values, labels)


def test_file_that_claims_to_be_larger_than_it_is_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, SCORES)
    path.write_bytes(path.read_bytes().replace(b"(3, 4, 5)", b"(99,99,9)"))
    with pytest.raises(InvalidRequestError, match=r"must be a \.npy file of numbers"):
        load_array(path)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("a.pt", "torch", "torch"), ("a.safetensors", "safetensors.numpy", "safetensors")],
)
def test_missing_package_is_said_with_what_to_do(tmp_path, monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InvalidRequestError, match=f"pip install {package}; or save it as .npy"):
        load_array(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.pt"])
def test_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        load_array(tmp_path / name)


@pytest.mark.parametrize("name", ["prob", "pred", "prediction", "sem_seg"])
def test_scores_beside_what_else_networks_save_are_found_by_their_name(tmp_path, name):
    np.savez(tmp_path / "a.npz", size=np.array([40, 60]), **{name: SCORES})
    np.testing.assert_array_equal(load_array(tmp_path / "a.npz"), SCORES)


def test_labels_beside_an_image_are_found_by_their_name(tmp_path):
    labels = np.eye(3, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", mask=labels, image=np.zeros((3, 3, 3)))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.npz", Notes()).values, labels)
    np.savez(tmp_path / "b.npz", a=labels, b=labels)
    with pytest.raises(InvalidRequestError, match=r"np.save\(\"labels.npy\""):
        read_labels(tmp_path / "b.npz", Notes())


def test_bare_numbers_in_a_file_are_said_to_lack_their_shape(tmp_path):
    SCORES.tofile(tmp_path / "a.npy")
    with pytest.raises(InvalidRequestError, match=r"of bare numbers save the array"):
        load_array(tmp_path / "a.npy")
