"""The files of a result hold all of it, and are whole or not there."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import InvalidRequestError, Outcome
from sam_refine_client import RefineResult, Region, SaveFormat
from sam_refine_client.files.colours import class_palette

PHOTO = np.full((6, 8, 3), 128, np.uint8)
REGIONS = (
    Region(0, (0, 0, 5, 5), 0.75, 0.875, True, Outcome.REFINED, -1, 0.0),
    Region(2, (6, 0, 7, 5), 0.5, 0.25, False, Outcome.LOW_IOU, -1, 0.0),
)
NAMES = ["sky", "roof", "Straße"]
ALL_FILES = {
    "labels.png",
    "palette.png",
    "regions.json",
    "result.npz",
    "before_after.png",
    "coco_rle.json",
    "coco_polygons.json",
}


def result_of(labels, coarse_labels=None, logits=None, regions=REGIONS):
    timings = {"decode": 12.5, "merge": 3.0}
    return RefineResult(labels, coarse_labels, logits, regions, timings, "request 1")


@pytest.fixture
def result():
    labels, coarse_labels = np.zeros((2, 6, 8), np.int32)
    labels[:, 4:] = 2
    coarse_labels[:, 6:] = 2
    return result_of(labels, coarse_labels)


def names(paths):
    return [path.name for path in paths]


def pixels(path, mode=None):
    with Image.open(path) as picture:
        return np.asarray(picture.convert(mode) if mode else picture)


# --- What is written -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "has_image", "expected"),
    [
        ({}, False, "palette.png regions.json result.npz labels.png"),
        ({}, True, "palette.png regions.json result.npz before_after.png labels.png"),
        ({"coarse_labels": None}, True, "palette.png regions.json result.npz labels.png"),
        ({"regions": None}, False, "palette.png result.npz labels.png"),
        ({"labels": None}, True, "regions.json result.npz"),
        ({"labels": np.full((6, 8), 256)}, False, "regions.json result.npz labels.png"),
    ],
)
def test_save_writes_what_the_result_has_and_no_coco(
    tmp_path, result, changed, has_image, expected
):
    given = replace(result, **changed)
    paths = given.save(tmp_path / "new" / "one", image=PHOTO if has_image else None)
    assert names(paths) == expected.split()
    assert sorted((tmp_path / "new" / "one").iterdir()) == sorted(paths)


def test_save_writes_every_format_in_the_order_asked_for_and_each_once(tmp_path, result):
    formats = [*reversed(SaveFormat), "labels", SaveFormat.NPZ]
    paths = result.save(str(tmp_path), formats=formats, image=PHOTO)
    assert len(paths) == 7
    assert names(paths)[-1] == "labels.png"
    assert set(names(paths)) == {path.name for path in tmp_path.iterdir()} == ALL_FILES


@pytest.mark.parametrize(("top", "bits"), [(0, 8), (2, 8), (255, 8), (256, 16), (65535, 16)])
def test_saved_labels_are_grey_of_8_or_16_bits(tmp_path, top, bits):
    labels = np.array([[0, 1 % (top + 1), top], [top, 0, 0]], np.int32)
    (path,) = result_of(labels).save(tmp_path, formats=["labels"])
    assert list(path.read_bytes()[24:26]) == [bits, 0]  # IHDR: depth, grey
    np.testing.assert_array_equal(pixels(path), labels)


@pytest.mark.parametrize("palette", [None, np.array([[1, 2, 3], [4, 5, 6]], np.uint8)])
def test_saved_palette_holds_the_labels_and_the_colours(tmp_path, palette):
    labels = np.array([[0, 1, 0], [1, 200, 255]], np.int32)
    (path,) = result_of(labels).save(
        tmp_path, formats=["palette"], palette=palette, ignore_label=255
    )
    np.testing.assert_array_equal(pixels(path), labels)
    colours = np.zeros((256, 3), np.uint8)
    colours[: 256 if palette is None else 2] = class_palette(256) if palette is None else palette
    colours[255] = 0
    np.testing.assert_array_equal(pixels(path, "RGB"), colours[labels])


@pytest.mark.parametrize("class_names", [None, NAMES])
def test_saved_regions_are_those_of_the_result(tmp_path, result, class_names):
    (path,) = result.save(tmp_path, formats=["regions"], class_names=class_names)
    rows = json.loads(path.read_text(encoding="utf-8"))
    if class_names is not None:
        assert [row.pop("class_name") for row in rows] == ["sky", "Straße"]
    assert [Region(**{**row, "box_xyxy": tuple(row["box_xyxy"])}) for row in rows] == list(REGIONS)


@pytest.mark.parametrize("regions", [(), REGIONS[:1], REGIONS])
@pytest.mark.parametrize("has_logits", [False, True])
def test_saved_arrays_hold_all_of_the_result(tmp_path, result, regions, has_logits):
    logits = np.random.default_rng(0).random((3, 6, 8), np.float32) if has_logits else None
    given = replace(result, regions=regions, logits=logits)
    (path,) = given.save(tmp_path, formats=["npz"])
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["labels"], given.labels)
        np.testing.assert_array_equal(arrays["coarse_labels"], given.coarse_labels)
        assert ("logits" in arrays) == has_logits
        if has_logits:
            np.testing.assert_array_equal(arrays["logits"], logits)
        assert arrays["region_boxes_xyxy"].shape == (len(regions), 4)
        columns = ("classes", "boxes_xyxy", "scores", "predicted_ious", "kept", "outcomes", "masks",
                   "gains")  # fmt: skip
        rows = zip(*(arrays[f"region_{column}"].tolist() for column in columns), strict=True)
        assert [Region(row[0], tuple(row[1]), *row[2:]) for row in rows] == list(regions)
        assert dict(zip(arrays["stages"], arrays["stage_times_ms"], strict=True)) == given.timings
        assert arrays["request_id"] == "request 1"


def test_saved_arrays_of_labels_alone_have_nothing_of_the_other_outputs(tmp_path):
    (path,) = result_of(np.zeros((2, 3), np.int32), regions=None).save(tmp_path, formats=["npz"])
    with np.load(path) as arrays:
        assert set(arrays) == {"labels", "stages", "stage_times_ms", "request_id"}


def test_saved_picture_is_what_overlay_draws(tmp_path, result):
    options = {"class_names": NAMES, "palette": class_palette(5)[2:], "ignore_label": 0}
    (path,) = result.save(tmp_path, formats=["before_after"], image=PHOTO, **options)
    np.testing.assert_array_equal(pixels(path), np.asarray(result.overlay(PHOTO, **options)))


def test_saved_coco_has_the_name_of_the_image_file(tmp_path, result):
    Image.fromarray(PHOTO).save(tmp_path / "street 1.png")
    for image_name, expected in (
        (None, "street 1.png"),
        ("val/1.jpg", "val/1.jpg"),
        (Path("val/\udc80é.jpg"), "val/\udc80é.jpg"),
    ):
        (path,) = result.save(
            tmp_path, formats=["coco_rle"], image=tmp_path / "street 1.png", image_name=image_name
        )
        assert json.loads(path.read_text())["images"][0]["file_name"] == expected


def test_save_does_not_change_its_arguments(tmp_path, result):
    palette = class_palette(3)
    for array in (result.labels, result.coarse_labels, palette):
        array.setflags(write=False)
    result.save(tmp_path, formats=list(SaveFormat), image=PHOTO, palette=palette)


# --- What is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["png"]}, "formats must be one of 'labels', 'palette', 'regions', 'npz', "),
        ({"formats": "labels"}, "formats must be several names, got 'labels' alone"),
        (
            {"formats": SaveFormat.NPZ},
            "formats must be several names, got <SaveFormat.NPZ: 'npz'> alone",
        ),
        ({"formats": ["before_after"]}, "before_after needs the image"),
        ({"image": PHOTO[:3]}, "coarse_labels must be (3, 8) like the image, got (6, 8)"),
        ({"image": 7}, "image must be an array, a PIL image, bytes or a path, got int"),
        ({"class_names": ["a", "b"]}, "got 2 names and the label 2; if that is not a class,"),
        (
            {"class_names": []},
            "class_names must have a name for each class, got 0 names and the label 0",
        ),
        ({"class_names": "abc"}, "class_names must be several texts, got 'abc'"),
        (
            {"class_names": {"a": 1, "b": 0, "c": 2}},
            "of ids and names give [id2label[i] for i in r",
        ),
        ({"class_names": {"a", "b", "c"}}, "class_names must be several texts, got {"),
        ({"class_names": Path("names.txt")}, "of a file give pathlib.Path(...).read_text()"),
        ({"class_names": ["a", 1, "c"]}, "class_names must be several texts, got ['a', 1, 'c']"),
        ({"palette": np.zeros((3, 4), np.uint8)}, "palette must be (n, 3) uint8, got (3, 4) uint8"),
        ({"palette": [[1, 2, 3]]}, "palette must be (n, 3) uint8, got list"),
        ({"palette": np.zeros((3, 3))}, "palette must be (n, 3) uint8, got (3, 3) float64"),
    ],
)
def test_save_of_arguments_that_do_not_fit_is_refused_and_writes_nothing(
    tmp_path, result, arguments, message
):
    with pytest.raises(ValueError, match=re.escape(message)):
        result.save(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("label", "formats", "message"),
    [
        (-1, None, "labels must be in [0, 65535] for a PNG, got -1"),
        (65536, ["npz", "labels"], "labels must be in [0, 65535] for a PNG, got 65536"),
        (256, ["palette"], "labels must be in [0, 255] for a PNG with a palette, got 256"),
        (-1, ["palette"], "labels must be in [0, 255] for a PNG with a palette, got -1"),
    ],
)
def test_save_of_labels_that_a_png_cannot_hold_is_refused(
    tmp_path, result, label, formats, message
):
    labels = result.labels.copy()
    labels[0, 0] = label
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(result, labels=labels).save(tmp_path / "new", formats=formats)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("format_", "outputs"),
    [
        ("labels", '"labels"'),
        ("palette", '"labels"'),
        ("regions", '"regions"'),
        ("before_after", '"labels" and "coarse_labels"'),
        ("coco_rle", '"labels"'),
        ("coco_polygons", '"labels"'),
    ],
)
def test_save_of_an_output_that_was_not_asked_for_names_it(tmp_path, format_, outputs):
    with pytest.raises(ValueError, match=f"needs the outputs? {outputs}"):
        result_of(None, regions=None).save(tmp_path, formats=[format_], image=PHOTO)


def test_save_names_are_not_needed_for_an_ignored_label_but_for_regions(tmp_path, result):
    labels = result.labels.copy()
    labels[0] = 255
    given = replace(result, labels=labels)
    given.save(tmp_path, class_names=NAMES, ignore_label=255, image=PHOTO)
    with pytest.raises(ValueError, match="got 3 names and the label 255"):
        given.save(tmp_path, class_names=NAMES)
    with pytest.raises(ValueError, match="got 2 names and the label 2"):
        result.save(tmp_path, class_names=NAMES[:2], ignore_label=2)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_save_where_a_file_is_in_the_way_is_an_error(tmp_path, result, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="file"):
        result.save(tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "mine"


def test_save_where_a_directory_is_in_the_way_of_a_file_leaves_the_others_as_they_were(
    tmp_path, result
):
    result.save(tmp_path, formats=["labels"])
    (tmp_path / "regions.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"regions\.json"):
        replace(result, labels=result.coarse_labels).save(tmp_path)
    np.testing.assert_array_equal(pixels(tmp_path / "labels.png"), result.labels)
    assert {path.name for path in tmp_path.iterdir()} == {"labels.png", "regions.json"}


# --- Whole or not there ----------------------------------------------------------------------


def test_save_again_replaces_the_files(tmp_path, result):
    result.save(tmp_path)
    result.save(tmp_path)
    other = replace(result, labels=result.coarse_labels)
    other.save(tmp_path)
    np.testing.assert_array_equal(pixels(tmp_path / "labels.png"), other.labels)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_save_that_is_ended_midway_leaves_all_files_as_they_were(
    tmp_path, result, monkeypatch, error
):
    result.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def write_half(file, **arrays):
        file.write(b"half")
        raise error

    monkeypatch.setattr(np, "savez_compressed", write_half)
    other = replace(result, labels=result.coarse_labels, regions=())
    with pytest.raises(type(error)):
        other.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_saved_files_have_the_permissions_of_any_new_file(tmp_path, result):
    (tmp_path / "mine").touch()
    for path in result.save(tmp_path):
        assert path.stat().st_mode == (tmp_path / "mine").stat().st_mode


def test_format_that_is_unknown_is_an_invalid_request(tmp_path, result):
    with pytest.raises(InvalidRequestError):
        result.save(tmp_path, formats=["png"])
