"""Which shards a data set has."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk import Source
from sam_refine_bulk.inputs import folder
from support.bulk.data_sets import image, npy, sample, scores, write_tar


def names(path, **options):
    return [shard.name for shard in Source(str(path), **options).shards()]


def test_tars_and_parquet_files_are_shards_at_any_depth(tmp_path):
    write_tar(tmp_path / "b.tar", sample(1))
    write_tar(tmp_path / "train/00000.TAR", sample(1))
    write_tar(tmp_path / ".cache/x.tar", sample(1))
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "train/data-00000-of-00001.parquet")
    assert names(tmp_path) == ["b", "train/00000", "train/data-00000-of-00001"]
    assert names(tmp_path / "b.tar") == ["b"]


def test_parquet_beside_a_tar_of_img2dataset_has_its_facts(tmp_path):
    write_tar(tmp_path / "00000.tar", sample(1) | {"0001.json": b"{}", "0001.txt": b""})
    pq.write_table(pa.table({"url": ["a"]}), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text("{}")
    assert names(tmp_path) == ["00000"]


def images_in(path, *stems):
    path.mkdir(parents=True, exist_ok=True)
    for number, stem in enumerate(stems):
        (path / f"{stem}.png").write_bytes(image(number))
        (path / f"{stem}.logits.npy").write_bytes(npy(scores(number)))
    return path


def test_folder_of_images_is_cut_into_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "IMAGES_OF_A_SHARD", 2)
    images_in(tmp_path, "a", "b", "c")
    (tmp_path / "b.labels.png").write_bytes(image(1))
    shards = Source(str(tmp_path)).shards()
    assert [shard.name for shard in shards] == ["images-00000", "images-00001"]
    assert [shard.contents for shard in shards] == [("/a.png", "/b.png"), ("/c.png",)]
    with shards[1].open() as index:
        (only,) = index.samples
        assert only.key == "c"
        assert np.array_equal(only.read()["logits"], scores(2))


def test_images_of_folders_below_are_found_where_the_folder_has_none_itself(tmp_path):
    images_in(tmp_path / "x", "a", "b")
    images_in(tmp_path / "y", "a")
    with Source(str(tmp_path)).shards()[0].open() as index:
        found = {sample.key: sample.read()["image"] for sample in index.samples}
    expected = {"x/a": "x/a.png", "x/b": "x/b.png", "y/a": "y/a.png"}
    assert found == {key: tmp_path / name for key, name in expected.items()}
    assert Source(str(tmp_path)).said_of_left_out() is None
    images_in(tmp_path, "c")
    with Source(str(tmp_path)).shards()[0].open() as index:
        assert [sample.key for sample in index.samples] == ["c"]
    said = Source(str(tmp_path)).said_of_left_out()
    assert said is not None
    assert said.startswith(
        "3 images of its folders left out (x/a.png), as it has images itself (c."
    )
    maps = Source(str(tmp_path), str(tmp_path / "x"), str(tmp_path / "y"))
    assert maps.said_of_left_out() is None


def test_image_that_is_gone_fails_alone_and_a_folder_that_is_gone_is_damaged(tmp_path):
    images_in(tmp_path, "a", "b")
    (tmp_path / "c.png").symlink_to("annex/c.png")
    np.save(tmp_path / "c.logits.npy", scores(3))
    (shard,) = Source(str(tmp_path)).shards()
    (tmp_path / "b.png").unlink()
    with shard.open() as index:
        assert [sample.key for sample in index.samples] == ["a", "b", "c"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError), shard.open():
        pass


def test_scores_and_labels_of_a_folder_are_found_as_refine_finds_them(tmp_path):
    images_in(tmp_path / "images", "a")
    for name, array in (("scores", scores(9)), ("labels", np.zeros((4, 6), np.uint8))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", array)
    source = Source(str(tmp_path / "images"), str(tmp_path / "scores"), str(tmp_path / "labels"))
    with source.shards()[0].open() as index:
        job = index.samples[0].read()
    assert np.array_equal(job["logits"], scores(9))
    assert job["labels"] == tmp_path / "labels" / "a.npy"
    assert job["image"] == tmp_path / "images" / "a.png"


def test_image_without_scores_fails(tmp_path):
    images_in(tmp_path, "a")
    (tmp_path / "a.logits.npy").unlink()
    with (
        Source(str(tmp_path)).shards()[0].open() as index,
        pytest.raises(
            InvalidRequestError,
            match=r"must have a\.logits\.npy or a\.labels\.png beside",
        ),
    ):
        index.samples[0].read()


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ([], {}, "has no image"),
        (["a.tar", "b.png"], {}, "has shards and images beside them"),
        (["a.tar.gz"], {}, "is compressed"),
        (["a.tar", "a.TAR"], {}, "must have one shard of a name, got a.TAR and a.tar"),
        (["x/a.parquet", "x/a.PARQUET"], {}, "got x/a.PARQUET and x/a.parquet"),
        (["a.tar"], {"logits": "scores"}, "goes without --logits and --labels"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path, files, options, message):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InvalidRequestError, match=message):
        Source(str(tmp_path), **options).shards()


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.zip"])
def test_packed_file_by_itself_is_to_be_unpacked(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InvalidRequestError, match=r"is compressed.*: unpack it"):
        Source(str(tmp_path / name)).shards()


def test_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(InvalidRequestError, match="must be a tar, a Parquet file"):
        Source(str(tmp_path / "a.csv")).shards()
