"""The arguments of `refine` that files make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam_refine.contract import EMBEDDING_SHAPE
from sam_refine_client import Embedding, InvalidRequestError
from sam_refine_client.inputs.coarse_maps import CoarseMaps
from sam_refine_client.inputs.images import ImageFile, find_images

SCORES = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
LABELS = np.array([[0, 1, 0]], np.int32)


@pytest.fixture
def folder(tmp_path):
    for name in ("logits", "labels", "embeddings"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "logits/street.npy", SCORES)
    np.save(tmp_path / "labels/street.npy", LABELS)
    values = np.zeros((1, *EMBEDDING_SHAPE), np.float32)
    Embedding(values, (1, 3)).save(tmp_path / "embeddings/street.npz")
    return tmp_path


@pytest.mark.parametrize("logits", ["logits", "logits/street.npy"])
def test_scores_alone_go_with_the_image(folder, logits):
    image = ImageFile(Path("images/street.jpg"), True)
    job = CoarseMaps(folder / logits).job(image)
    assert set(job) == {"image", "logits"}
    assert job["image"] == image.path
    np.testing.assert_array_equal(job["logits"], SCORES)


def test_embedding_takes_the_place_of_the_image(folder):
    maps = CoarseMaps(
        folder / "logits", folder / "labels", folder / "embeddings", "softmax", "still"
    )
    job = maps.job(ImageFile(Path("street.jpg"), True))
    assert set(job) == {"logits", "labels", "embedding", "activation", "image_id"}
    np.testing.assert_array_equal(job["labels"], LABELS)
    assert job["embedding"].size_hw == (1, 3)
    assert (job["activation"], job["image_id"]) == ("softmax", "still")


def test_file_that_is_missing_or_there_twice_is_refused(folder):
    maps = CoarseMaps(folder / "logits", folder / "labels")
    with pytest.raises(InvalidRequestError, match=r"logits must have yard\.npy, got none"):
        maps.job(ImageFile(Path("yard.jpg"), True))
    (folder / "labels/street.png").touch()
    with pytest.raises(InvalidRequestError, match=r"street\.npy or street\.png, got both"):
        maps.job(ImageFile(Path("street.jpg"), True))


def test_images_of_a_folder_are_found_by_name(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", "c.jpeg"):
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()
    found = find_images(tmp_path)
    assert [image.path.name for image in found] == ["a.jpg", "b.PNG", "c.jpeg"]
    assert all(image.is_of_folder for image in found)
    assert find_images(tmp_path / "a.jpg") == [ImageFile(tmp_path / "a.jpg", False)]
