"""A run that goes on must be the same; what is older than its files is made again."""

from __future__ import annotations

import os

import pytest

from sam_refine_client import InvalidRequestError
from sam_refine_client.files.run_manifest import (
    MANIFEST_NAME,
    check_goes_on,
    is_up_to_date,
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
        ({"options": {"iou_threshold": 0.7}}, r"with options \{.*0\.8\}, now \{.*0\.7\}: take ano"),
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


def test_results_must_be_there_and_newer_than_what_they_were_made_of(tmp_path):
    image, labels = tmp_path / "image", tmp_path / "labels"
    image.touch()
    assert not is_up_to_date([labels], [image])
    labels.touch()
    os.utime(image, (1000, 1000))
    os.utime(labels, (1000, 1000))
    assert is_up_to_date([labels], [image])
    os.utime(image, (1001, 1001))
    assert not is_up_to_date([labels], [image])
    assert not is_up_to_date([labels], [tmp_path / "missing"])
