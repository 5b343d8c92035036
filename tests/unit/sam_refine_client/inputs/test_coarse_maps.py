"""The arguments of `refine` that files make."""

from __future__ import annotations

import json
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
    assert job["labels"] == folder / "labels/street.npy"
    assert job["embedding"].size_hw == (1, 3)
    assert (job["activation"], job["image_id"]) == ("softmax", "still")


def test_file_that_is_missing_or_there_twice_is_refused(folder):
    maps = CoarseMaps(folder / "logits", folder / "labels")
    with pytest.raises(InvalidRequestError, match=r"logits must have yard\.npy or .*, got none"):
        maps.job(ImageFile(Path("yard.jpg"), True))
    (folder / "labels/street.png").touch()
    with pytest.raises(
        InvalidRequestError, match=r"street\.npy or .*, got street\.npy, street\.png"
    ):
        maps.job(ImageFile(Path("street.jpg"), True))


def test_folder_of_a_folder_for_each_class_is_a_mask_for_each(tmp_path):
    for name in ("cup", "spoon", "table"):
        (tmp_path / name).mkdir()
    (tmp_path / "cup/street.png").touch()
    (tmp_path / "table/street.npy").touch()
    image = ImageFile(Path("street.jpg"), True)
    job = CoarseMaps(labels=tmp_path, palette="voc").job(image)
    masks = {"cup": tmp_path / "cup/street.png", "spoon": None,
             "table": tmp_path / "table/street.npy"}  # fmt: skip
    assert job == {"image": image.path, "labels": masks, "palette": "voc"}
    with pytest.raises(InvalidRequestError, match="must have a mask of yard in a folder of a clas"):
        CoarseMaps(labels=tmp_path).job(ImageFile(Path("yard.jpg"), True))


def test_files_are_the_image_and_all_that_goes_with_it(tmp_path):
    """A mask for each class, or maps that lie as the images do."""
    (tmp_path / "cat").mkdir()
    mask, empty = tmp_path / "cat/street.png", tmp_path / "dog"
    empty.mkdir()
    mask.touch()
    image = ImageFile(Path("street.jpg"), True)
    assert CoarseMaps(labels=tmp_path).files(image) == [image.path, mask]
    in_folder = ImageFile(Path("cat/street.jpg"), True, "cat")
    assert CoarseMaps(labels=tmp_path).files(in_folder) == [in_folder.path, mask]


def test_folders_that_are_named_by_numbers_are_ids(tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "3/street.png").touch()
    job = CoarseMaps(labels=tmp_path).job(ImageFile(Path("street.jpg"), True))
    assert job["labels"] == {3: tmp_path / "3/street.png"}


def test_file_of_coco_has_what_goes_with_each_image(tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 2, "width": 3} for i in range(2)]
    annotations = [{"image_id": i, "category_id": i, "segmentation": []} for i in range(2)]
    content = {"images": images, "annotations": annotations}
    (tmp_path / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    job = CoarseMaps(labels=tmp_path / "coco.json").job(ImageFile(Path("1.jpg"), True))
    assert job["labels"] == {"images": images[1:], "annotations": annotations[1:]}


def test_images_of_a_folder_are_found_by_name(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", "c.jpeg"):
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()
    found = find_images(tmp_path)
    assert [image.path.name for image in found] == ["a.jpg", "b.PNG", "c.jpeg"]
    assert all(image.is_of_folder for image in found)
    assert find_images(tmp_path / "a.jpg") == [ImageFile(tmp_path / "a.jpg", False)]
