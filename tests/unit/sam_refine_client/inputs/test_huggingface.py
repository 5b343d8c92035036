"""Images and label maps that a metadata file lists, and the file that is written again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_client.inputs.datasets import DATASETS, Dataset
from sam_refine_client.inputs.huggingface import write_lists
from sam_refine_client.inputs.images import find_images

ROWS = [
    {"file_name": "b.jpg", "mask_file_name": "masks/b_m.png", "label": "7"},
    {"file_name": "x/a.jpg", "mask_file_name": "masks/a_m.PNG", "label": "9"},
]


def text_of(rows, suffix):
    if suffix == "jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows)
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n"


def data_set(root, rows, suffix="csv"):
    path = root / "train" / f"metadata.{suffix}"
    path.parent.mkdir()
    path.write_text(text_of(rows, suffix))
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_listed_images_have_the_label_maps_of_their_rows(tmp_path, suffix):
    data_set(tmp_path, ROWS, suffix)
    (tmp_path / "train/masks").mkdir()
    (tmp_path / "train/masks/b_m.png").touch()  # a picture that is no image of the list
    b, a = find_images(tmp_path, recursive=True, listed=True)
    assert [each.name for each in (a, b)] == ["train/x/a", "train/b"]
    assert [each.label for each in (a, b)] == ["train/masks/a_m", "train/masks/b_m"]
    place = DATASETS[Dataset.HUGGINGFACE].label_maps(tmp_path)
    assert b.companion(place, (".png",)) == tmp_path / "train/masks/b_m.png"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("has_maps", [True, False])
def test_list_is_written_again_of_the_images_that_are_done(tmp_path, suffix, has_maps):
    rows = ROWS if has_maps else [{"file_name": row["file_name"]} for row in ROWS]
    source = data_set(tmp_path, rows, suffix)
    b, _ = find_images(tmp_path, listed=True)
    write_lists(tmp_path, tmp_path / "out", {b.path})
    expected = rows[0] if has_maps else {"file_name": "b.jpg", "label_file_name": "labels/b.png"}
    written = tmp_path / "out" / source.relative_to(tmp_path)
    assert written.read_text() == text_of([expected], suffix)
    assert f"{b.label}.png" == f"train/{expected.get('mask_file_name', 'labels/b.png')}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file_name": "../a.jpg"}, "must have files of its own folder as file_name, got"),
        ({"file_name": "/etc/a.jpg"}, "must have files of its own folder as file_name, got"),
        ({"file_name": "a.jpg", "mask": "../../b.png"}, "of its own folder as mask, got"),
        ({"file_name": "a\0.jpg"}, "must have files of its own folder as file_name, got"),
        ({"name": "a.jpg"}, "must have file_name in each row"),
    ],
)
def test_list_that_leads_elsewhere_is_refused(tmp_path, row, message):
    data_set(tmp_path, [row])
    with pytest.raises(InvalidRequestError, match=message):
        find_images(tmp_path, listed=True)


def test_row_with_more_cells_than_columns_is_refused_before_the_work(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text\na.jpg,no comma\nb.jpg,one, two\n")
    with pytest.raises(
        InvalidRequestError, match=r"got 1 more for 'b\.jpg'; text with commas goes"
    ):
        find_images(tmp_path, listed=True)


def test_images_that_share_a_label_map_are_refused(tmp_path):
    rows = [{"file_name": f"{name}.jpg", "mask": "m.png"} for name in "ab"]
    data_set(tmp_path, rows)
    with pytest.raises(InvalidRequestError, match="a label map of its own for each image"):
        find_images(tmp_path, listed=True)


def test_folder_without_a_list_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"must have a metadata.csv or metadata.jsonl"):
        find_images(Path(tmp_path), listed=True)


@pytest.mark.parametrize(("name", "text"), [("csv", ""), ("csv", "file_name\n"), ("jsonl", "\n")])
def test_list_without_images_is_refused_and_others_are_not_taken_for_them(tmp_path, name, text):
    (tmp_path / f"metadata.{name}").write_text(text)
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InvalidRequestError, match=rf"metadata\.{name} must list images, got none"):
        find_images(tmp_path, listed=True)
