"""COCO's annotations are label maps: of polygons and of runs, packed or not."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_client.files.coco import dataset, polygon_annotations, rle_annotations
from sam_refine_client.reading.coco import dataset_of
from sam_refine_client.reading.labels import read_labels
from sam_refine_client.reading.notes import Notes

SIZE = (6, 8)
LABELS = np.zeros(SIZE, np.int32)
LABELS[1:4, 2:6] = 3
LABELS[2, 3:5] = 1
THREE, ONE = [[2, 1, 6, 1, 6, 4, 2, 4]], [[3, 2, 5, 2, 5, 3, 3, 3]]


def annotation(category, segmentation, image_id=7, **more):
    return {"category_id": category, "segmentation": segmentation, "image_id": image_id, **more}


ANNOTATIONS = [annotation(1, ONE), annotation(3, THREE)]
COCO = {
    "images": [{"id": 7, "file_name": "a/street.jpg", "height": 6, "width": 8},
               {"id": 8, "file_name": "yard.jpg", "height": 6, "width": 8}],
    "annotations": [*ANNOTATIONS, annotation(5, THREE, 8)],
    "categories": [{"id": i, "name": str(i)} for i in (1, 3, 5)],
}  # fmt: skip


def read(labels, **arguments):
    notes = Notes()
    found = read_labels(labels, notes, **arguments)
    return found, notes.sentences


def runs(where):
    counts, last, length = [], False, 0
    for value in where.T.ravel().tolist():
        if value != last:
            counts.append(length)
            last, length = value, 0
        length += 1
    return {"size": list(where.shape), "counts": [*counts, length]}


def test_file_of_another_image_is_said_and_of_a_folder_refused(tmp_path):
    path = tmp_path / "one.json"
    one = {**COCO, "images": COCO["images"][:1], "annotations": ANNOTATIONS}
    path.write_text(json.dumps(one), encoding="utf-8")
    _, said = read(path, image_name="other.jpg", size_hw=SIZE)
    assert f"{path} is of street.jpg, and taken for other.jpg" in said
    with pytest.raises(InvalidRequestError, match=r"of the name other.jpg, got 0 of 1"):
        dataset_of(path, "other.jpg")


def test_crowds_are_said():
    _, said = read([annotation(1, ONE, iscrowd=1)], size_hw=SIZE)
    assert "labels: crowds are taken like single things" in said


@pytest.mark.parametrize("name", ["street.jpg", "street.png", "a/street.jpg"])
def test_annotations_of_the_image_are_its_classes_small_ones_above(tmp_path, name):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO), encoding="utf-8")
    for labels in (path, str(path), COCO, dataset_of(path, name)):
        found, said = read(labels, image_name=name.rpartition("/")[2], size_hw=SIZE)
        assert said[0].endswith("pixels without an annotation are class 0")
        np.testing.assert_array_equal(found.values, LABELS)


@pytest.mark.parametrize("kind", ["polygons", "rle", "runs", "runs of numpy"])
def test_every_kind_of_mask_is_drawn(kind):
    if kind == "runs":
        annotations = [annotation(i, runs(i == LABELS)) for i in (1, 3)]
    elif kind == "runs of numpy":
        annotations = [annotation(i, {"size": np.array(SIZE), "counts": np.array(found["counts"])})
                       for i in np.array([1, 3]) for found in [runs(i == LABELS)]]  # fmt: skip
    else:
        make = polygon_annotations if kind == "polygons" else rle_annotations
        annotations = [each for each in make(LABELS) if each["category_id"]]
    np.testing.assert_array_equal(read(annotations, size_hw=SIZE)[0].values, LABELS)


@pytest.mark.parametrize("make", [polygon_annotations, rle_annotations])
def test_what_results_are_saved_as_comes_back(make):
    found, said = read(dataset(make(LABELS), SIZE, "image", {0: "a", 1: "b", 3: "c"}))
    assert said == ()
    np.testing.assert_array_equal(found.values, LABELS)


def test_what_no_annotation_covers_is_void_where_0_is_a_category():
    zero = {**COCO, "categories": [{"id": i, "name": str(i)} for i in (0, 1, 3)]}
    found, said = read(zero, image_name="street.jpg")
    assert found.void == 255
    np.testing.assert_array_equal(found.values, np.where(LABELS == 0, 255, LABELS))
    assert "-1 is void" in said[0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({**COCO, "annotations": [{"segments_info": []}]}, "is COCO's panoptic form"),
        (COCO, "must have one image, got 2 of 2; give the annotations of one"),
        ([*ANNOTATIONS, annotation(5, THREE, 8)], "annotations of one image, got those of 2"),
        ([annotation(1, [])], "category_id and segmentation, got no mask in number 0"),
        ([annotation(None, ONE)], "category_id and segmentation, got None in number 0"),
        ([annotation(1, "none")], "COCO's polygons or run-length masks, got something else"),
        ([annotation(1, runs(LABELS[:2] == 1))], "masks of the image's size (6, 8), got (2, 8)"),
        ({"annotations": 5}, "labels must be a COCO file with images and annotations"),
        ({"annotations": [5], "images": [6]}, "a COCO file with images and annotations, got other"),
        ({"annotations": [], "images": [6]}, "a COCO file with images and annotations, got other"),
        ([{"segmentation": LABELS == 1, "area": 3}], "of things without classes, as SAM's generat"),
        ([annotation(1, [[1, 1, 4, 1, 4, 4, 1]])], "polygons must be [x, y, x, y, ...] of pixels"),
        ([annotation(1, [[1, 1, 1e30, 1, 4, 4]])], "polygons must be [x, y, x, y, ...] of pixels"),
        ([annotation(1, [[1, 1, math.nan, 1, 4, 4]])], "polygons must be [x, y, x, y, ...] of pix"),
        ([annotation(1, [[[1, 1], [4, 1], [4, 4]]])], "polygons must be [x, y, x, y, ...] of pixe"),
        (
            [annotation(1, {"size": [6, 8], "counts": [1, 99]})],
            "must be numbers of pixels, 48 in a",
        ),
        (
            [annotation(1, {"size": [6, 8], "counts": [-2, 50]})],
            "must be numbers of pixels, 48 in ",
        ),
        ([annotation(1, {"size": [6, 8], "counts": "11"})], "must be numbers of pixels, 48 in all"),
        ([annotation(1, {"size": [6, 8], "counts": "ooo"})], "its packed runs must end"),
        ([annotation(1, {"size": [6, 8], "counts": ""})], "its packed runs must end"),
        ([annotation(70000, ONE)], "category_id and segmentation, got 70000 in number 0"),
        ([annotation(1, [[0.2, 0.1, 0.6, 0.1, 0.6, 0.4]])], "coordinates shares of width and heig"),
    ],
)
def test_annotations_that_are_wrong_are_refused(labels, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read(labels, size_hw=SIZE)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"shapes": [], "imagePath": "a.jpg", "version": "5"}, "LabelMe's JSON"),
        ({"imgHeight": 6, "imgWidth": 8, "objects": []}, "Cityscapes' polygons"),
        ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
        ({"a.jpg9": {"filename": "a.jpg", "regions": []}}, "VIA's JSON"),
        ([{"id": 1, "data": {}, "annotations": []}], "Label Studio's JSON"),
        ({"a": 1}, "other JSON"),
    ],
)
def test_json_of_other_tools_is_named(tmp_path, content, kind):
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=rf"a\.json must be a COCO file .*, got {kind}"):
        read(tmp_path / "a.json", size_hw=SIZE)


def test_annotation_that_covers_no_pixel_is_said():
    _, said = read([*ANNOTATIONS, annotation(5, [[1, 1, 1, 1, 1, 1]])], size_hw=SIZE)
    assert "labels: 1 of 3 annotations cover no pixel" in said


def test_two_points_are_no_box():
    """Four numbers are one for pycocotools."""
    two_points = [1, 1, 3, 3]
    found, said = read([annotation(1, [two_points]), annotation(3, THREE)], size_hw=SIZE)
    assert 1 not in found.values
    assert "labels: 1 of 2 annotations cover no pixel" in said
    both, _ = read([annotation(3, [two_points, *THREE])], size_hw=SIZE)
    np.testing.assert_array_equal(both.values, read([annotation(3, THREE)], size_hw=SIZE)[0].values)


def test_annotations_without_a_size_and_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match="must have the image's height and width"):
        read(ANNOTATIONS)
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=r"a\.json must be JSON"):
        read(tmp_path / "a.json")


def test_missing_pycocotools_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    with pytest.raises(InvalidRequestError, match=r'pip install "sam-refine\[coco\]"'):
        read(ANNOTATIONS, size_hw=SIZE)


def test_numbers_of_images_as_text_are_those_of_their_annotations():
    images = [{**COCO["images"][0], "id": "7"}]
    found, _ = read({**COCO, "images": images, "annotations": ANNOTATIONS}, size_hw=SIZE)
    np.testing.assert_array_equal(found.values, LABELS)


def test_annotations_of_which_none_is_of_the_image_are_said():
    other = {**COCO, "images": COCO["images"][1:], "annotations": ANNOTATIONS}
    _, said = read(other, size_hw=SIZE)
    assert "labels: none of its 2 annotations is of this image" in said
