"""WebDataset tars: what is a sample, and what is damage."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_bulk import DamagedShardError
from sam_refine_bulk.inputs.tar import TarShard
from support.bulk.data_sets import image, npy, sample, scores, write_tar


def keys(path):
    with TarShard("s", path).open() as index:
        return [each.key for each in index.samples]


def jobs(path):
    """The job of each sample, or the message of its error."""
    found = []
    with TarShard("s", path).open() as index:
        for each in index.samples:
            try:
                found.append(each.read())
            except InvalidRequestError as error:
                found.append(str(error))
    return found


def test_members_of_a_key_are_a_sample_in_the_order_of_the_tar(tmp_path):
    path = write_tar(tmp_path / "s.tar", sample(7) | sample(3))
    assert keys(path) == ["0007", "0003"]
    first, second = jobs(path)
    assert first["image"] == image(7)
    assert np.array_equal(second["logits"], scores(3))
    assert set(first) == {"image", "logits"}


def test_labels_go_with_their_image_and_other_members_are_left_alone(tmp_path):
    labels = np.arange(24, dtype=np.int32).reshape(4, 6)
    others = {"0001.json": b"{}", "0001.txt": b"a cup", "._0001.png": b"x", "notes.md": b""}
    more = {"0001.labels.npy": npy(labels)}
    path = write_tar(tmp_path / "s.tar", sample(1) | others | more)
    (job,) = jobs(path)
    assert np.array_equal(job["labels"], labels)


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "JPG", "webp", "tif"])
def test_image_of_any_kind_is_given_to_the_client_as_it_is(tmp_path, ending):
    members = {f"a.{ending}": b"content", "a.logits.npy": npy(scores(1))}
    (job,) = jobs(write_tar(tmp_path / "s.tar", members))
    assert job["image"] == b"content"


def test_arrays_are_read_as_the_client_reads_them(tmp_path):
    packed = io.BytesIO()
    np.savez(packed, scores(1))
    members = {"a.png": image(1), "a.logits.npz": packed.getvalue()}
    (job,) = jobs(write_tar(tmp_path / "s.tar", members))
    np.testing.assert_array_equal(job["logits"], scores(1))


def test_labels_alone_are_enough_and_a_picture_of_them_is_given_as_it_is(tmp_path):
    members = {"a.png": image(1), "a.labels.png": b"content"}
    assert jobs(write_tar(tmp_path / "s.tar", members)) == [
        {"image": image(1), "labels": b"content"}
    ]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": image(1)}, "scores as one logits.npy or labels as one labels.png, got none"),
        ({"a.logits.npy": npy(scores(1))}, "must have one image .*, got none"),
        (sample(1, "a") | {"a.jpg": image(1)}, "must have one image .*, got jpg and png"),
        (
            {"a.png": b"", "a.labels.png": b"", "a.labels.npy": b""},
            "labels as one labels.png, got labels.png and labels.npy",
        ),
        ({"a.png": image(1), "a.logits.npy": b"no"}, "a.logits.npy must be a .npy file"),
        (sample(1, "../../etc/a"), "must not lead out of the folder"),
        (sample(1, "/etc/a"), "must not lead out of the folder"),
        (sample(1, "b/../../a"), "must not lead out of the folder"),
        (sample(1, "a\n"), "control characters"),
        (sample(1, "b\\a"), "backslash"),
        (sample(1, "x" * 1001), "at most 1000 bytes"),
    ],
)
def test_sample_that_cannot_be_refined_fails_with_its_reason(tmp_path, members, message):
    path = write_tar(tmp_path / "s.tar", members | sample(2))
    wrong, right = jobs(path)
    assert isinstance(right, dict)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(wrong)


@pytest.mark.parametrize("key", ["a/b/c", "straße/é", "wörld", "x" * 300])
def test_names_with_folders_umlauts_and_length_are_keys(tmp_path, key):
    path = write_tar(tmp_path / "s.tar", sample(1, key))
    assert keys(path) == [key]
    assert isinstance(jobs(path)[0], dict)


def test_key_that_comes_again_fails_the_second_time(tmp_path):
    path = write_tar(tmp_path / "s.tar", [*sample(1, "a").items(), *sample(2, "a").items()])
    first, second = jobs(path)
    assert np.array_equal(first["logits"], scores(1))
    assert "comes again" in second


def test_members_of_a_key_need_not_lie_side_by_side(tmp_path):
    one, two = sample(1, "a"), sample(2, "b")
    mixed = [*zip(one.items(), two.items(), strict=True)]
    path = write_tar(tmp_path / "s.tar", [pair for pairs in mixed for pair in pairs])
    assert keys(path) == ["a", "b"]
    assert all(isinstance(job, dict) for job in jobs(path))


def whole_tar(tmp_path):
    path = write_tar(tmp_path / "s.tar", sample(1) | sample(2))
    return path, path.read_bytes()


def test_tar_cut_anywhere_before_its_end_is_damaged(tmp_path):
    path, content = whole_tar(tmp_path)
    with tarfile.open(path) as tar:
        end = max(each.offset_data + -(-each.size // 512) * 512 for each in tar)
    for size in range(0, end + 1, 256):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedShardError, match=r"no whole tar.*fetch it again"):
            keys(path)
    path.write_bytes(content[: end + 512])
    assert len(keys(path)) == 2


def test_tar_with_garbage_between_members_is_damaged(tmp_path):
    path, content = whole_tar(tmp_path)
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    path.write_bytes(content[:second] + b"\x07" * 512 + content[second + 512 :])
    with pytest.raises(DamagedShardError, match="is damaged, at byte"):
        keys(path)


def test_something_else_is_no_tar(tmp_path):
    path = tmp_path / "s.tar"
    path.write_bytes(image(1) * 40)
    with pytest.raises(DamagedShardError, match="no whole tar"):
        keys(path)


def test_fingerprint_tells_contents_apart_not_places(tmp_path):
    prints = []
    for name, members in (("a", sample(1)), ("b", sample(1)), ("c", sample(1) | sample(2))):
        with TarShard("s", write_tar(tmp_path / f"{name}.tar", members)).open() as index:
            prints.append(index.fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_keys_with_dots_are_samples_and_keep_their_dots(tmp_path):
    members = sample(1, "img.v1.2") | sample(2, "d.d/img.v1.3")
    path = write_tar(tmp_path / "s.tar", members)
    assert keys(path) == ["img.v1.2", "d.d/img.v1.3"]
    first, second = jobs(path)
    assert np.array_equal(first["logits"], scores(1))
    assert np.array_equal(second["logits"], scores(2))


def test_image_of_another_ending_beside_a_sample_is_no_sample(tmp_path):
    path = write_tar(tmp_path / "s.tar", sample(1, "a") | {"a.depth.png": image(2)})
    assert keys(path) == ["a"]
    assert jobs(path)[0]["image"] == image(1)


def test_dotted_sample_beside_one_without_dots_is_a_sample(tmp_path):
    path = write_tar(tmp_path / "s.tar", sample(1, "a.0") | sample(2, "a") | sample(3, "a.1"))
    assert keys(path) == ["a.0", "a", "a.1"]


def test_dotted_image_without_a_map_fails_instead_of_being_left_out(tmp_path):
    path = write_tar(tmp_path / "s.tar", {"a.0.png": image(1)} | sample(2))
    assert keys(path) == ["a.0", "0002"]
    assert "must have scores" in jobs(path)[0]


def test_members_that_are_not_known_are_named_where_something_is_missing(tmp_path):
    members = {"a.png": image(1), "a.scores.npy": npy(scores(1)), "b.heic": b"x"}
    path = write_tar(tmp_path / "s.tar", members | {"b.logits.npy": npy(scores(1))})
    first, second = jobs(path)
    assert first.endswith("got none; of its key it has scores.npy")
    assert second.endswith("got none; of its key it has heic")


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_in_a_tar_are_what_they_lead_to(tmp_path, kind):
    path = write_tar(tmp_path / "s.tar", sample(1, "d/a"))
    with tarfile.open(path, "a") as tar:
        for ending in ("png", "logits.npy"):
            link = tarfile.TarInfo(f"d/b.{ending}")
            link.type = kind
            link.linkname = f"d/a.{ending}" if kind == tarfile.LNKTYPE else f"../d/a.{ending}"
            tar.addfile(link)
    assert keys(path) == ["d/a", "d/b"]
    assert jobs(path)[0]["image"] == jobs(path)[1]["image"] == image(1)


@pytest.mark.parametrize("target", ["/etc/passwd", "../elsewhere.png", "a.png"])
def test_link_that_leads_out_of_the_tar_fails_with_its_name(tmp_path, target):
    path = write_tar(tmp_path / "s.tar", {"a.logits.npy": npy(scores(1))})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)
    assert jobs(path) == [
        "a.png must be a whole file in the tar, got a link out of it, or a sparse file"
    ]


def test_tar_of_other_files_only_is_damaged_rather_than_done(tmp_path):
    path = write_tar(tmp_path / "s.tar", {"a.txt": b"x", "b.seg": b"x"})
    with pytest.raises(DamagedShardError, match=r"has no sample, .* such as a\.txt, b\.seg"):
        keys(path)


def test_compressed_tar_that_is_called_tar_is_to_be_unpacked(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(DamagedShardError, match="it is compressed: unpack it"):
        keys(tmp_path / "s.tar")
