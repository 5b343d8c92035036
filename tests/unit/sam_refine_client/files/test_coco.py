"""COCO files hold exactly the labels, as pycocotools reads them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pycocotools.mask
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools.coco import COCO

from sam_refine.contract import InvalidRequestError
from sam_refine_client import RefineResult
from sam_refine_client.files.coco import dataset, merged, polygon_annotations, rle_annotations
from sam_refine_client.files.saving import save_merged_coco

UNLABELLED = -99
MAPS = {
    "one pixel": [[3]],
    "one row": [[0, 0, 1, 1, 0]],
    "one column": [[0], [1], [1]],
    "one class": [[7] * 5] * 4,
    "hole": [[1, 1, 1], [1, 0, 1], [1, 1, 1]],
    "hole at the corner of another": [
        [1, 1, 1, 1],
        [1, 0, 1, 1],
        [1, 1, 0, 1],
        [1, 1, 1, 1],
    ],
    "hole that touches the outside at a corner": [
        [0, 1, 1, 1],
        [1, 2, 1, 1],
        [1, 1, 1, 1],
    ],
    "ring whose ends touch at a corner": [
        [1, 1, 1, 1],
        [1, 0, 0, 1],
        [1, 0, 1, 0],
        [1, 1, 1, 1],
    ],
    "rings in rings": [[min(y, x, 8 - y, 8 - x) % 2 for x in range(9)] for y in range(9)],
    "holes around holes": [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 1, 2, 1, 1, 1],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 1],
    ],
    "chessboard": [[(y + x) % 2 for x in range(6)] for y in range(5)],
}
label_maps = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 3)).flatmap(
    lambda sizes: arrays(np.int32, sizes[:2], elements=st.integers(0, sizes[2]))
)


def decoded(path, size):
    """The labels (H, W) that pycocotools reads from a file; it asserts that no masks overlap."""
    coco = COCO(str(path))
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["height"], image["width"]) == size
    labels = np.full(size, UNLABELLED)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
        mask = coco.annToMask(annotation).astype(bool)
        assert (labels[mask] == UNLABELLED).all()
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert annotation["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        labels[mask] = annotation["category_id"]
    return labels


def areas(labels):
    """(H, W) for each 4-connected area of one label, by label, then raster order."""
    found = []
    for label in np.unique(labels):
        left = labels == label
        while left.any():
            area = np.zeros_like(left)
            area[np.unravel_index(left.argmax(), left.shape)] = True
            while True:
                grown = area.copy()
                grown[1:] |= area[:-1]
                grown[:-1] |= area[1:]
                grown[:, 1:] |= area[:, :-1]
                grown[:, :-1] |= area[:, 1:]
                grown &= left
                if (grown == area).all():
                    break
                area = grown
            found.append(area)
            left &= ~area
    return found


def check_polygons(labels):
    """Each annotation is one area, by two ways of rasterising, in polygons that are simple."""
    annotations = polygon_annotations(labels)
    expected = areas(labels)
    assert len(annotations) == len(expected)
    rows, columns = np.indices(labels.shape) + 0.5
    for annotation, area in zip(annotations, expected, strict=True):
        rings = annotation["segmentation"]
        encoded = pycocotools.mask.frPyObjects(rings, *labels.shape)
        masks = pycocotools.mask.decode(encoded).astype(int)
        np.testing.assert_array_equal(masks.sum(-1), area)  # no two overlap
        polygons = [shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in rings]
        inside = sum(shapely.contains_xy(polygon, columns, rows) for polygon in polygons)
        np.testing.assert_array_equal(inside, area)
        assert all(polygon.is_valid for polygon in polygons)
        highest = [min(zip(ring[1::2], ring[::2], strict=True)) for ring in rings]
        assert highest == sorted(highest)
        for ring in rings:
            sides = np.diff(np.reshape(ring + ring[:4], (-1, 2)), axis=0) != 0
            assert (sides.sum(-1) == 1).all()  # along the borders of pixels
            assert (sides[1:] != sides[:-1]).all()  # and only corners
        assert annotation["category_id"] == labels[area][0]


@pytest.mark.parametrize("name", MAPS)
def test_polygons_of_a_drawn_map_are_its_areas(name):
    check_polygons(np.array(MAPS[name], np.int32))


@given(label_maps)
def test_polygons_of_any_map_are_its_areas(labels):
    check_polygons(labels)


@pytest.mark.slow
def test_polygons_of_a_large_map_full_of_holes_are_its_areas(tmp_path):
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 300)) < 0.05).astype(np.int32)
    labels[50:150, 40:250] += 2
    result(labels).save(tmp_path, formats=["coco_polygons"])
    np.testing.assert_array_equal(decoded(tmp_path / "coco_polygons.json", (200, 300)), labels)


def test_polygons_of_a_ring_are_cut_above_and_below_its_hole():
    labels = np.array(MAPS["hole"], np.int32)
    hole, ring = polygon_annotations(labels)
    assert [len(polygons["segmentation"]) for polygons in (hole, ring)] == [1, 2]
    assert hole["segmentation"] == [[1, 1, 1, 2, 2, 2, 2, 1]]
    assert ring["segmentation"] == [
        [0, 0, 0, 3, 1, 3, 1, 0],
        [1, 0, 1, 1, 2, 1, 2, 2, 1, 2, 1, 3, 3, 3, 3, 0],
    ]
    assert ring["area"] == 8
    assert ring["bbox"] == [0, 0, 3, 3]


@given(label_maps)
def test_rle_of_any_map_is_the_mask_of_each_class(labels):
    annotations = rle_annotations(labels)
    assert [each["category_id"] for each in annotations] == np.unique(labels).tolist()
    for annotation in annotations:
        assert isinstance(annotation["segmentation"]["counts"], str)
        mask = pycocotools.mask.decode(annotation["segmentation"])
        np.testing.assert_array_equal(mask, labels == annotation["category_id"])


def result(labels):
    return RefineResult(labels, None, None, None, {}, "x")


@pytest.mark.parametrize("format_", ["coco_rle", "coco_polygons"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_coco_file_loads_with_pycocotools_and_gives_the_labels_back(tmp_path, format_, dtype):
    labels = np.random.default_rng(1).integers(0, 4, (23, 31)).astype(dtype)
    labels[5:15, 3:20] = 200
    names = [f"Straße {i}" for i in range(201)]
    (path,) = result(labels).save(
        tmp_path, formats=[format_], class_names=names, image_name="val/0001.png"
    )
    np.testing.assert_array_equal(decoded(path, (23, 31)), labels)
    coco = COCO(str(path))
    assert coco.loadImgs([1])[0]["file_name"] == "val/0001.png"
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == names
    ids = coco.getAnnIds()
    assert ids == list(range(1, len(ids) + 1))  # pycocotools' evaluation takes 0 for none
    assert {annotation["iscrowd"] for annotation in coco.loadAnns(ids)} == {0}


@pytest.mark.parametrize("format_", ["coco_rle", "coco_polygons"])
@pytest.mark.parametrize("ignore_label", [255, -1, 1])
def test_coco_file_leaves_an_ignored_label_out(tmp_path, format_, ignore_label):
    labels = np.array([[0, 0, 2], [0, 2, 2]], np.int32)
    labels[0, 1] = ignore_label
    (path,) = result(labels).save(
        tmp_path, formats=[format_], ignore_label=ignore_label, class_names=["a", "b", "c"]
    )
    expected = np.where(labels == ignore_label, UNLABELLED, labels)
    np.testing.assert_array_equal(decoded(path, (2, 3)), expected)
    categories = {each["id"]: each["name"] for each in json.loads(path.read_text())["categories"]}
    assert categories == {
        class_id: name for class_id, name in enumerate("abc") if class_id != ignore_label
    }


@pytest.mark.parametrize("format_", ["coco_rle", "coco_polygons"])
def test_coco_file_of_a_map_that_is_ignored_altogether_has_no_annotations(tmp_path, format_):
    labels = np.full((4, 5), 255, np.int32)
    (path,) = result(labels).save(tmp_path, formats=[format_], ignore_label=255)
    assert (decoded(path, (4, 5)) == UNLABELLED).all()
    assert json.loads(path.read_text())["categories"] == []


def test_coco_file_without_names_calls_the_classes_present_by_number(tmp_path):
    (path,) = result(np.array([[70000, 4]])).save(tmp_path, formats=["coco_rle"])
    content = json.loads(path.read_text())
    assert content["categories"] == [{"id": 4, "name": "4"}, {"id": 70000, "name": "70000"}]
    assert content["images"][0]["file_name"] == "image"


@pytest.mark.parametrize(
    ("format_", "module"), [("coco_rle", "pycocotools"), ("coco_polygons", "shapely")]
)
def test_coco_without_its_packages_names_the_extra(tmp_path, monkeypatch, format_, module):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    message = rf'COCO files need {module}: pip install "sam-refine\[coco\]"'
    with pytest.raises(ModuleNotFoundError, match=message):
        result(np.zeros((2, 2), np.int32)).save(tmp_path / "new", formats=["labels", format_])
    assert not (tmp_path / "new").exists()


# --- One file of many images -----------------------------------------------------------------


def of_one_image(labels, name, categories):
    labels = np.array(labels, np.int32)
    return dataset(rle_annotations(labels), labels.shape, name, categories)


def test_merged_file_has_the_labels_of_each_image_as_pycocotools_reads_it(tmp_path):
    maps = {name: np.array(MAPS[name], np.int32) for name in ("hole", "one row", "rings in rings")}
    parts = []
    for number, (name, labels) in enumerate(maps.items()):
        parts.append(tmp_path / f"{number}.json")
        present = {class_id: str(class_id) for class_id in np.unique(labels).tolist()}
        parts[-1].write_text(json.dumps(of_one_image(labels, f"{name}.png", present)))
    save_merged_coco(parts, tmp_path / "new/all.json")
    coco = COCO(tmp_path / "new/all.json")
    images = coco.loadImgs(coco.getImgIds())
    assert [image["file_name"] for image in images] == [f"{name}.png" for name in maps]
    assert len(coco.anns) == len(coco.dataset["annotations"])  # no id is there twice
    for image, labels in zip(images, maps.values(), strict=True):
        drawn = np.full_like(labels, UNLABELLED)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            drawn[coco.annToMask(annotation) == 1] = annotation["category_id"]
        np.testing.assert_array_equal(drawn, labels)
    assert sorted(coco.cats) == [0, 1]


@pytest.mark.parametrize(
    ("name", "categories", "message"),
    [
        ("a.png", {0: "road"}, "each image once, got two called a.png"),
        ("b.png", {0: "sky"}, "one name for category 0, got 'road' and 'sky'"),
    ],
)
def test_datasets_that_do_not_go_together_are_refused(name, categories, message):
    first = of_one_image([[0]], "a.png", {0: "road"})
    with pytest.raises(InvalidRequestError, match=message):
        merged([first, of_one_image([[0]], name, categories)])


def test_merged_part_that_is_no_json_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "part.json").write_text("{")
    with pytest.raises(InvalidRequestError, match=r"part\.json must be JSON"):
        save_merged_coco([tmp_path / "part.json"], tmp_path / "all.json")
    assert not (tmp_path / "all.json").exists()
