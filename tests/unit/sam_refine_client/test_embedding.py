"""An embedding comes back from its file as it was; nothing else is taken for one."""

from __future__ import annotations

import re
import tracemalloc
import zipfile

import numpy as np
import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_client import Embedding, RefineClient
from sam_refine_client.reading.images import EXIF_NOTE

VALUES = np.random.default_rng(0).normal(size=(1, 256, 64, 64)).astype(np.float32)
EMBEDDING = Embedding(VALUES, (400, 600))


def test_repr_is_one_short_line():
    assert repr(EMBEDDING) == "<Embedding of an image of 400 x 600>"


@pytest.mark.parametrize("name", ["photo.npz", "photo", "photo.embedding"])
def test_saved_embedding_comes_back_bit_by_bit_from_the_name_given(tmp_path, name):
    path = EMBEDDING.save(str(tmp_path / name))
    assert [path] == list(tmp_path.iterdir()) == [tmp_path / name]
    loaded = Embedding.load(path)
    assert loaded.values.dtype == np.float32
    assert loaded.values.tobytes() == VALUES.tobytes()
    assert loaded.size_hw == (400, 600)
    assert [type(side) for side in loaded.size_hw] == [int, int]


def test_save_again_replaces_the_file(tmp_path):
    EMBEDDING.save(tmp_path / "photo.npz")
    Embedding(VALUES, (7, 9)).save(tmp_path / "photo.npz")
    assert Embedding.load(tmp_path / "photo.npz").size_hw == (7, 9)


def arrays(path, **changed):
    image_size = np.array([400, 600], np.int64)
    np.savez(path, **{"embedding": VALUES, "image_size": image_size, **changed})


def text(path):
    path.write_text("no embedding")


def empty(path):
    path.write_bytes(b"")


def cut(path):
    arrays(path)
    path.write_bytes(path.read_bytes()[:-100_000])


def damaged(path):
    arrays(path)
    content = bytearray(path.read_bytes())
    content[1_000_000] ^= 255
    path.write_bytes(content)


def single(path):
    with path.open("wb") as file:
        np.save(file, VALUES)


def pickled(path):
    arrays(path, image_size=np.array([400, 600], object))


def foreign(path):
    np.savez(path, labels=np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (text, "allow_pickle"),
        (empty, "No data left|allow_pickle"),
        (cut, "File is not a zip file"),
        (damaged, "Bad CRC-32"),
        (single, "it is a single array"),
        (pickled, "Object arrays cannot be loaded when allow_pickle=False"),
        (foreign, "embedding is not a file in the archive"),
    ],
)
def test_load_of_another_file_is_refused(tmp_path, write, message):
    path = tmp_path / "photo.npz"
    write(path)
    with pytest.raises(InvalidRequestError, match=message) as caught:
        Embedding.load(path)
    assert str(caught.value).startswith(f"{path} must be a file that Embedding.save wrote: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embedding": VALUES[0]}, "its embedding is (256, 64, 64) float32"),
        ({"embedding": VALUES.astype(np.float16)}, "its embedding is (1, 256, 64, 64) float16"),
        ({"embedding": np.full_like(VALUES, np.nan)}, "its embedding has values that are not fin"),
        ({"image_size": np.array([0, 600])}, "its image_size is [0, 600]"),
        ({"image_size": np.array([4.0, 6.0])}, "its image_size is [4.0, 6.0]"),
        ({"image_size": np.array([4, 6, 8])}, "its image_size is (3,) int64"),
    ],
)
def test_load_of_arrays_that_are_no_embedding_is_refused(tmp_path, changed, message):
    path = tmp_path / "photo.npz"
    arrays(path, **changed)
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        Embedding.load(path)


def test_load_of_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Embedding.load(tmp_path / "photo.npz")


def test_load_of_a_file_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path):
    path = tmp_path / "bomb.npz"
    header = {"descr": "<f4", "fortran_order": False, "shape": (1, 256, 1024, 256)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("embedding.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(16):
            member.write(bytes(2**24))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(InvalidRequestError, match=r"unpacked it must have at most \d+ bytes, got"):
        Embedding.load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize(
    "given", [{"logits": np.full((2, 15, 10), 0.5)}, {"labels": np.zeros((60, 40), np.uint8)}]
)
def test_map_of_the_upright_photo_goes_not_with_an_embedding_of_it_as_it_is_stored(given):
    values = np.zeros((1, 256, 64, 64), np.float32)
    stored = Embedding(values, (40, 60), warnings=(f"photo.jpg {EXIF_NOTE} 6: its pixels are",))
    with RefineClient("127.0.0.1:1") as client:
        with pytest.raises(InvalidRequestError, match="is of the upright photo, but the embedding"):
            client.refine(embedding=stored, **given)
        same = Embedding(values, (40, 60))
        with pytest.raises(InvalidRequestError, match="which is like"):
            client.refine(embedding=same, **given)
