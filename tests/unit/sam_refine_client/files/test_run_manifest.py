"""A run that goes on must be the same; what is older than its files is made again."""

from __future__ import annotations

import os

import pytest

from sam_refine_client import InvalidRequestError
from sam_refine_client.files import run_manifest
from sam_refine_client.files.run_manifest import (
    INPUTS_NAME,
    MANIFEST_NAME,
    InputRecords,
    check_goes_on,
    write_manifest,
)

SETTINGS = {"options": {"iou_threshold": 0.8}, "activation": None, "formats": ("labels",)}


def test_same_settings_go_on(tmp_path):
    write_manifest(tmp_path / "out", SETTINGS)
    check_goes_on(tmp_path / "out", SETTINGS)


def test_folder_without_a_manifest_is_gone_on_with(tmp_path):
    check_goes_on(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"options": {"iou_threshold": 0.7}},
            r"made with iou_threshold 0\.8, now 0\.7: take ano",
        ),
        ({"activation": "softmax"}, r"made with activation None, now 'softmax'"),
        ({"layout": "flat"}, r"made with layout None, now 'flat'"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changes, sentence):
    write_manifest(tmp_path, SETTINGS)
    with pytest.raises(InvalidRequestError, match=sentence):
        check_goes_on(tmp_path, SETTINGS | changes)


def test_manifest_that_is_damaged_is_refused(tmp_path):
    (tmp_path / MANIFEST_NAME).write_text("{")
    with pytest.raises(InvalidRequestError, match=r"sam-refine\.json is damaged: .*; remove it"):
        check_goes_on(tmp_path, SETTINGS)


@pytest.fixture
def files(tmp_path):
    """An image, its scores, and what was made of them, all of one time."""
    paths = [tmp_path / name for name in ("a.jpg", "a.npy", "a.png")]
    for path, text in zip(paths, ("image.", "before", "result"), strict=True):
        path.write_text(text)
        os.utime(path, (1000, 1000))
    return paths


def recorded(folder, files):
    records = InputRecords(folder, SETTINGS)
    records.read("x/a", files[:2])
    records.done("x/a")
    return InputRecords(folder, SETTINGS)


def test_results_without_a_record_must_be_newer_than_what_they_were_made_of(tmp_path, files):
    image, scores, result = files
    records = InputRecords(tmp_path, SETTINGS)
    assert records.is_up_to_date("x/a", [result], [image, scores])
    os.utime(image, (1001, 1001))
    assert not records.is_up_to_date("x/a", [result], [image, scores])
    assert not records.is_up_to_date("x/a", [result], [tmp_path / "missing"])
    assert not records.is_up_to_date("x/a", [tmp_path / "missing"], [scores])


def test_inputs_that_were_touched_are_the_same_and_older_ones_with_other_bytes_are_not(
    tmp_path, files
):
    image, scores, result = files
    records = recorded(tmp_path, files)
    os.utime(image, (2000, 2000))
    assert records.is_up_to_date("x/a", [result], [image, scores])
    scores.write_text("behind")  # as long as before
    os.utime(scores, (500, 500))
    assert not records.is_up_to_date("x/a", [result], [image, scores])


def test_other_inputs_than_those_of_the_record_are_not_the_same(tmp_path, files):
    image, scores, result = files
    records = recorded(tmp_path, files)
    assert not records.is_up_to_date("x/a", [result], [image])
    assert not records.is_up_to_date("x/a", [result], [scores, image])
    assert not records.is_up_to_date("x/a", [tmp_path / "missing"], [image, scores])


def test_last_record_of_an_image_counts(tmp_path, files):
    recorded(tmp_path, files)
    files[1].write_text("longer than before")
    recorded(tmp_path, files)
    assert InputRecords(tmp_path, SETTINGS).is_up_to_date("x/a", files[2:], files[:2])


def test_results_of_other_settings_are_not_up_to_date(tmp_path, files):
    recorded(tmp_path, files)
    other = InputRecords(tmp_path, SETTINGS | {"activation": "softmax"})
    assert not other.is_up_to_date("x/a", files[2:], files[:2])


def test_file_of_another_folder_is_another_whatever_its_size_and_time(tmp_path, files):
    records = recorded(tmp_path, files)
    other = tmp_path / "other" / files[1].name
    other.parent.mkdir()
    other.write_text("behind")
    os.utime(other, (1000, 1000))
    assert not records.is_up_to_date("x/a", files[2:], [files[0], other])
    other.write_text("before")
    assert records.is_up_to_date("x/a", files[2:], [files[0], other])


def test_what_changed_while_an_image_was_refined_is_not_what_its_results_are_of(tmp_path, files):
    records = InputRecords(tmp_path, SETTINGS)
    records.read("x/a", files[:2])
    files[1].write_text("behind")
    records.done("x/a")
    assert not InputRecords(tmp_path, SETTINGS).is_up_to_date("x/a", files[2:], files[:2])


def test_touched_inputs_are_read_once_more_and_then_known(tmp_path, files, monkeypatch):
    records = recorded(tmp_path, files)
    os.utime(files[0], (2000, 2000))
    assert records.is_up_to_date("x/a", files[2:], files[:2])
    monkeypatch.setattr(run_manifest, "_digest", None)
    assert InputRecords(tmp_path, SETTINGS).is_up_to_date("x/a", files[2:], files[:2])


@pytest.mark.parametrize("rest", [b'{"image": "x/b", "fil', b"[]", b'{"image": 1}', b"\xff"])
def test_line_that_was_cut_short_counts_for_nothing_and_the_next_one_does(tmp_path, files, rest):
    (tmp_path / INPUTS_NAME).write_bytes(rest)
    records = recorded(tmp_path, files)
    os.utime(files[0], (2000, 2000))
    assert records.is_up_to_date("x/a", files[2:], files[:2])
