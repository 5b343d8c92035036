"""Labelled images in files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import InvalidRequestError
from sam_refine_quality import find_samples


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "logits", "truth", "labels"):
        (tmp_path / name).mkdir()
    for index, name in enumerate("abc"):
        Image.new("RGB", (6, 4)).save(tmp_path / f"images/{name}.png")
        np.save(tmp_path / f"logits/{name}.npy", np.full((2, 4, 6), index, np.float32))
        Image.fromarray(np.full((4, 6), index, np.uint8)).save(tmp_path / f"truth/{name}.png")
        np.save(tmp_path / f"labels/{name}.npy", np.full((4, 6), 10 + index))
    return tmp_path


def find(folder, **arguments):
    return find_samples(folder / "images", folder / "logits", folder / "truth", **arguments)


def test_samples_of_a_folder_are_its_images_with_the_files_of_their_names(folder):
    found = find(folder, labels=folder / "labels", activation="softmax")
    assert [each.name for each in found] == [str(folder / f"images/{name}.png") for name in "abc"]
    sample = found[1].read()
    assert sample.name == str(sample.image) == found[1].name
    assert sample.logits.shape == (2, 4, 6)
    assert (sample.truth == 1).all()
    assert sample.labels == folder / "labels/b.npy"
    assert sample.activation == "softmax"
    assert sample.truth_name == str(folder / "truth/b.png")


def test_sample_without_labels_and_activation_has_none(folder):
    sample = find(folder)[0].read()
    assert sample.labels is None
    assert sample.activation is None


def test_limit_takes_the_first_by_name(folder):
    assert [each.name[-5:] for each in find(folder, limit=2)] == ["a.png", "b.png"]


def test_one_image_goes_with_files(folder):
    files = (folder / "images/c.png", folder / "logits/a.npy", folder / "truth/b.png")
    (found,) = find_samples(*files)
    assert (found.read().truth == 1).all()


def test_sample_without_its_truth_is_refused_when_it_is_read(folder):
    (folder / "truth/b.png").unlink()
    _, missing, _ = find(folder)
    with pytest.raises(InvalidRequestError, match=r"truth must have b\.npy or .*, got none"):
        missing.read()


def test_samples_of_folders_within_a_folder_are_found_by_patterns(tmp_path):
    places = ("images/x/a_left.png", "scores/x/a.npy", "truth/x/a_ids.npy")
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True)
    Image.new("RGB", (4, 3)).save(tmp_path / places[0])
    np.save(tmp_path / places[1], np.full((2, 3, 4), 0.5, np.float32))
    np.save(tmp_path / places[2], np.ones((3, 4), np.uint8))
    (found,) = find_samples(
        tmp_path / "images",
        tmp_path / "scores/{name}.npy",
        tmp_path / "truth/{folder}/{stem}_ids.npy",
        recursive=True,
        cut_suffix="_left",
    )
    sample = found.read()
    assert sample.truth_name == str(tmp_path / places[2])
    np.testing.assert_array_equal(sample.truth, np.ones((3, 4)))
    assert sample.logits.shape == (2, 3, 4)
