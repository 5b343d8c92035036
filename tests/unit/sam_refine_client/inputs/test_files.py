"""What is read from a caller's files, and what is refused by the file's name."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from sam_refine_client import InvalidRequestError
from sam_refine_client.inputs.files import load_array, load_class_names, load_labels

LABELS = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


def test_labels_come_back_from_npy_palette_and_grey(tmp_path):
    np.save(tmp_path / "a.npy", LABELS.astype(np.int64))
    grey = Image.fromarray(LABELS)
    grey.save(tmp_path / "grey.png")
    grey.putpalette(list(range(256)) * 3)
    grey.save(tmp_path / "palette.png")
    Image.fromarray(LABELS.astype(np.uint16) * 256).save(tmp_path / "deep.png")
    for name, factor in (("a.npy", 1), ("grey.png", 1), ("palette.png", 1), ("deep.png", 256)):
        labels = load_labels(tmp_path / name)
        np.testing.assert_array_equal(labels, LABELS.astype(np.int64) * factor)


def test_colour_picture_is_no_label_map(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    with pytest.raises(InvalidRequestError, match=r"a\.png must have a palette.*the mode RGB"):
        load_labels(tmp_path / "a.png")


@pytest.mark.parametrize("read", [load_array, load_labels])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\xff\xd8\xff\xe0 something else"])
def test_damaged_array_is_refused_by_its_name(tmp_path, read, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InvalidRequestError, match=r"a\.npy must be a \.npy file of numbers"):
        read(tmp_path / "a.npy")


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InvalidRequestError, match=r"a\.npy must be a \.npy file of numbers"):
        load_array(tmp_path / "a.npy")


def test_archive_of_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=LABELS)
    with pytest.raises(InvalidRequestError, match="got an archive of arrays"):
        load_array(tmp_path / "a.npz")


def test_class_names_are_lines_of_text(tmp_path):
    (tmp_path / "names.txt").write_text("sky\ntree é\n", encoding="utf-8")
    assert load_class_names(tmp_path / "names.txt") == ["sky", "tree é"]
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequestError, match=r"names\.txt must be a text file in UTF-8"):
        load_class_names(tmp_path / "names.txt")


def test_labels_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("L", (8193, 8192)).save(path)
    tracemalloc.start()
    with pytest.raises(InvalidRequestError, match="at most 67108864 pixels, got 8192 x 8193"):
        load_labels(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
