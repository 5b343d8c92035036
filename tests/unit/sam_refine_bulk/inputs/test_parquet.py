"""Parquet files: images and scores in the forms in which data sets have them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk import DamagedShardError
from sam_refine_bulk.inputs.parquet import Columns, ParquetShard
from support.bulk.data_sets import image, npy, scores

ROWS = 50


def write(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def columns(images=None, logits=None, rows=ROWS, **more):
    images = [image(number) for number in range(rows)] if images is None else images
    logits = [npy(scores(number)) for number in range(rows)] if logits is None else logits
    return {"image": images, "logits": logits, **more}


def read(path, columns=None, order=range(ROWS)):
    with ParquetShard("s", path, columns or Columns()).open() as index:
        return [(index.samples[row].key, index.samples[row].read()) for row in order]


def test_rows_are_samples_whatever_the_order_and_the_row_groups(tmp_path):
    path = write(tmp_path / "a.parquet", columns(), row_group_size=20)
    for order in (range(ROWS), [49, 0, 19, 20, 21, 5, 48, 48], range(30, ROWS)):
        found = read(path, order=order)
        assert [key for key, _ in found] == [f"{row:08}" for row in order]
        for row, (_, job) in zip(order, found, strict=True):
            assert job["image"] == image(row)
            assert np.array_equal(job["logits"], scores(row))


def test_images_of_huggingface_and_scores_as_lists(tmp_path):
    structs = [{"bytes": image(row), "path": f"{row}.png"} for row in range(3)]
    lists = pa.array(
        [scores(row).tolist() for row in range(3)], pa.list_(pa.list_(pa.list_(pa.float32())))
    )
    path = write(tmp_path / "a.parquet", columns(structs, lists))
    for row, (_, job) in enumerate(read(path, order=range(3))):
        assert job["image"] == image(row)
        assert np.array_equal(job["logits"], scores(row))
        assert job["logits"].dtype == np.float32


LABELS = np.array([[0, 1, 2], [2, 1, 0]])
FORMS = {
    "struct": [{"bytes": b"a picture", "path": "a.png"}],
    "bytes": [b"a picture"],
    "npy": [npy(LABELS)],
    "lists": [LABELS.tolist()],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["label", "annotation", "mask"])
def test_labels_without_scores_are_found_by_the_usual_names(tmp_path, form, name):
    path = write(tmp_path / "a.parquet", {"image": [image(0)], name: FORMS[form]})
    ((_, job),) = read(path, order=[0])
    assert set(job) == {"image", "labels"}
    expected = b"a picture" if form in ("struct", "bytes") else LABELS
    np.testing.assert_array_equal(job["labels"], expected)


def test_labels_beside_scores_are_taken_where_they_are_named(tmp_path):
    path = write(tmp_path / "a.parquet", columns(rows=1, label=FORMS["npy"]))
    assert set(read(path, order=[0])[0][1]) == {"image", "logits"}
    assert set(read(path, Columns(labels="label"), order=[0])[0][1]) == {
        "image",
        "logits",
        "labels",
    }


def test_label_that_is_a_number_is_no_map(tmp_path):
    path = write(tmp_path / "a.parquet", {"image": [image(0)], "label": [3]})
    with pytest.raises(DamagedShardError, match="has no column of scores"):
        read(path, order=[0])


def test_keys_are_those_of_a_column_and_one_that_comes_again_fails(tmp_path):
    path = write(tmp_path / "a.parquet", columns(rows=3, key=["x", "y", "x"]))
    assert [key for key, _ in read(path, order=[0, 1])] == ["x", "y"]
    with pytest.raises(InvalidRequestError, match="comes again"):
        read(path, order=[2])


def test_columns_of_other_names_are_named(tmp_path):
    renamed = dict(zip(("photo", "raw", "name"), columns(rows=2, key=["p", "q"]).values()))  # noqa: B905
    path = write(tmp_path / "a.parquet", renamed)
    with pytest.raises(DamagedShardError, match=r"no column of image .*it has photo, raw, name"):
        read(path)
    found = read(path, Columns("photo", "raw", "name"), order=[1])
    assert found[0][0] == "q"
    with pytest.raises(DamagedShardError, match="no column missing"):
        read(path, Columns("photo", "raw", "missing"))


@pytest.mark.parametrize(
    ("images", "logits", "message"),
    [
        ([None], [npy(scores(0))], "must have the bytes of an image, got none"),
        ([image(0)], pa.array([None], pa.binary()), "must have scores, got none"),
        ([image(0)], [b"no array"], "scores must be a .npy file"),
        ([image(0)], pa.array([[[[1.0, 2.0], [1.0]]]]), "must have scores as lists"),
        ([image(0)], pa.array([[1.0, 2.0]]), "must have scores as lists"),
        (["a.jpg"], [npy(scores(0))], "got the text 'a.jpg'; a path is not followed"),
        (pa.array([{"bytes": None, "path": "a.jpg"}]), [npy(scores(0))], "got the text 'a.jpg'"),
        ([[[1, 2]]], [npy(scores(0))], "bytes of an image, got a column of list"),
    ],
)
def test_row_that_cannot_be_used_fails_with_its_reason(tmp_path, images, logits, message):
    if images == [None]:
        images = pa.array([None], pa.binary())
    path = write(tmp_path / "a.parquet", {"image": images, "logits": logits})
    with pytest.raises(InvalidRequestError, match=message):
        read(path, order=[0])


def test_scores_may_be_the_bytes_of_a_struct(tmp_path):
    kept = pa.array([{"bytes": npy(scores(0)), "path": None}])
    path = write(tmp_path / "a.parquet", {"image": [image(0)], "logits": kept})
    np.testing.assert_array_equal(read(path, order=[0])[0][1]["logits"], scores(0))


def test_file_of_neither_scores_nor_label_maps_says_how_to_name_either(tmp_path):
    path = write(tmp_path / "a.parquet", {"image": [image(0)], "seg": [image(0)]})
    with pytest.raises(DamagedShardError, match=r"or of label maps .*seg; name one .*--labels-col"):
        read(path)


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_file_cut_short_is_damaged(tmp_path, size):
    path = write(tmp_path / "a.parquet", columns())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DamagedShardError, match="no whole Parquet file"):
        read(path)
