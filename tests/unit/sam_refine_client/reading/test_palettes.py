"""Colours of label maps are their classes, by known tables and files of others."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import InvalidRequestError
from sam_refine_client.reading.labels import read_labels
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.palettes import PALETTES, VOID, read_palette

TABLE = [(10, 20, 30), (200, 0, 0), (0, 0, 255)]
LABELS = np.array([[0, 1, 1], [2, 2, 0]])
COLOURED = np.array(TABLE, np.uint8)[LABELS]


def read(labels, palette=None, **arguments):
    notes = Notes()
    found = read_labels(labels, notes, palette=palette, **arguments)
    return found, notes.sentences


@pytest.mark.parametrize(
    ("name", "classes", "colours", "known"),
    [
        ("ade20k", 150, 150, {0: (120, 120, 120), 2: (6, 230, 230), 12: (150, 5, 61)}),
        ("camvid", 32, 32, {5: (64, 0, 128), 21: (128, 128, 128), 31: (64, 192, 0)}),
        ("camvid11", 11, 32, {0: (128, 128, 128), 3: (128, 0, 192), 8: (64, 0, 128)}),
        ("cityscapes", 19, 29, {0: (128, 64, 128), 13: (0, 0, 142), 18: (119, 11, 32)}),
        ("voc", 21, 22, {0: (0, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}),
    ],
)
def test_known_tables_have_the_classes_that_people_know(name, classes, colours, known):
    palette = read_palette(name)
    assert palette.has_void
    assert max(label for label in palette.labels.tolist() if label != VOID) == classes - 1
    assert len(palette.colours) == colours
    for label, colour in known.items():
        found, said = read(np.full((2, 2, 3), colour, np.uint8), name)
        assert (found.values.tolist(), said) == ([[label] * 2] * 2, ())


def test_voc_is_what_its_bits_make():
    def colour(label):
        bits = [[(label >> (3 * step + channel)) & 1 for step in range(3)] for channel in range(3)]
        return tuple(sum(bit << (7 - step) for step, bit in enumerate(each)) for each in bits)

    for label in range(21):
        found, _ = read(np.full((2, 2, 3), colour(label), np.uint8), "voc")
        assert (found.values == label).all()


def test_void_of_a_table_is_void():
    pixels = np.array([[(128, 64, 128), (0, 0, 0), (111, 74, 0)]] * 2, np.uint8)
    found, said = read(pixels, "cityscapes")
    assert (found.values.tolist(), found.void, said) == ([[0, 255, 255]] * 2, 255, ())


CITY = np.array([(128, 64, 128), (244, 35, 232), (0, 0, 142)], np.uint8)[LABELS]


@pytest.mark.parametrize("palette", [None, "cityscapes"])
def test_colours_of_opencv_are_refused_as_such(palette):
    with pytest.raises(
        InvalidRequestError, match=r"as BGR, as OpenCV has .*labels\[\.\.\., ::-1\]"
    ):
        read(CITY[..., ::-1], palette)
    assert read(CITY[..., ::-1][..., ::-1], palette)[0].values.tolist() == [[0, 1, 1], [13, 13, 0]]


def test_colours_that_a_table_has_in_either_order_are_said():
    voc = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)[LABELS]
    found, (said,) = read(voc)
    assert found.values.tolist() == LABELS.tolist()
    assert said.endswith("of OpenCV's BGR, which it has, too, give labels[..., ::-1]")


def test_greys_beside_a_palette_are_its_greys_or_class_ids_which_is_said():
    found, said = read(np.array([[0, 70]], np.uint8), "cityscapes")
    assert (found.values.tolist(), found.void, said) == ([[255, 2]], 255, ())
    found, said = read(LABELS, "cityscapes")
    assert found.values.tolist() == LABELS.tolist()
    assert said == ("labels are in no colours: they are taken as class ids, without palette",)


FILES = {
    "a.txt": "10 20 30 sky\n200 0 0 road\n0 0 255 car\n",
    "b.txt": "# by id\n1 200 0 0 road\n2 0 0 255 car\n0 10 20 30 sky\n",
    "c.csv": "name,r,g,b\nsky,10,20,30\nroad,200,0,0\ncar,0,0,255\n",
    "d.csv": "id;name;r;g;b\n0;sky;10;20;30\n1;road;200;0;0\n2;car;0;0;255\n",
    "e.json": '{"sky": [10, 20, 30], "road": [200, 0, 0], "car": [0, 0, 255]}',
    "f.json": '{"1": "#c80000", "0": "#0A141E", "2": "#0000ff"}',
    "mapillary.json": '{"labels": [{"name": "sky", "color": [10, 20, 30]}, '
    '{"name": "road", "color": [200, 0, 0]}, {"name": "car", "color": [0, 0, 255]}]}',
    "coco.json": '[{"id": 1, "name": "road", "color": [200, 0, 0], "isthing": 0}, '
    '{"id": 0, "name": "sky", "color": [10, 20, 30]}, {"id": 2, "color": [0, 0, 255]}]',
    "g.json": "[[10, 20, 30], [200, 0, 0], [0, 0, 255]]",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("as_file", [False, True])
def test_palette_of_a_file_is_read(tmp_path, name, as_file):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    labels = COLOURED
    if as_file:
        labels = tmp_path / "labels.png"
        Image.fromarray(COLOURED).save(labels)
    found, said = read(labels, tmp_path / name)
    assert said == ()
    np.testing.assert_array_equal(found.values, LABELS)


def test_palette_of_arrays_dicts_and_png_is_read(tmp_path):
    np.save(tmp_path / "p.npy", np.array(TABLE))
    picture = Image.fromarray(LABELS.astype(np.uint8))
    picture.putpalette([value for colour in TABLE for value in colour])
    picture.save(tmp_path / "p.png")
    for palette in (np.array(TABLE, np.uint8), TABLE, dict(enumerate(TABLE)),
                    tmp_path / "p.npy", str(tmp_path / "p.png")):  # fmt: skip
        np.testing.assert_array_equal(read(COLOURED, palette)[0].values, LABELS)


def test_void_by_name_keeps_the_numbers_of_the_others(tmp_path):
    (tmp_path / "p.txt").write_text("10 20 30 sky\n200 0 0 Void\n0 0 255 car\n", encoding="utf-8")
    found, said = read(COLOURED, tmp_path / "p.txt")
    assert said == ()
    np.testing.assert_array_equal(found.values, np.where(LABELS == 1, 255, LABELS))
    assert found.void == 255


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "0 10 20 30 sky\n-1 200 0 0 plate\n2 0 0 255 car\n"),
        ("p.json", '{"0": [10, 20, 30], "-1": [200, 0, 0], "2": [0, 0, 255]}'),
    ],
)
def test_label_of_minus_1_is_void(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found, _ = read(COLOURED, tmp_path / name)
    np.testing.assert_array_equal(found.values, np.where(LABELS == 1, 255, LABELS))
    assert found.void == 255


def test_colours_of_a_png_with_a_palette_are_looked_up_where_one_is_given(tmp_path):
    picture = Image.fromarray(COLOURED).quantize(3)
    picture.save(tmp_path / "p.png")
    for labels in (picture, tmp_path / "p.png"):
        np.testing.assert_array_equal(read(labels, TABLE)[0].values, LABELS)


def test_indices_in_another_order_than_a_known_table_are_said(tmp_path):
    picture = Image.fromarray(LABELS.astype(np.uint8))
    picture.putpalette([70, 70, 70, 244, 35, 232, 128, 64, 128])
    picture.save(tmp_path / "p.png")
    found, (said,) = read(tmp_path / "p.png")
    assert said.endswith("if these are meant, give palette=cityscapes")
    np.testing.assert_array_equal(found.values, LABELS)
    found, said = read(tmp_path / "p.png", "cityscapes")
    assert said == ()
    np.testing.assert_array_equal(found.values, 2 - LABELS)


def test_colours_that_only_one_table_has_are_taken_and_said():
    colours = np.array([(128, 64, 128), (244, 35, 232), (70, 70, 70)], np.uint8)
    found, (said,) = read(colours[LABELS])
    assert "taken as those of cityscapes, the only table that has them" in said
    np.testing.assert_array_equal(found.values, LABELS)


def test_alpha_of_a_coloured_map_is_dropped():
    opaque = np.dstack([COLOURED, np.full((2, 3), 255, np.uint8)])
    found, said = read(opaque, TABLE)
    assert said == ()
    np.testing.assert_array_equal(found.values, LABELS)


SMOOTH = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("labels", "palette", "message"),
    [
        (COLOURED, None, f"need palette=, a file of colours and names or one of {PALETTES[0]}"),
        (COLOURED, "voc", "must have the colours of voc, got 3 others at 100.0% of the pixels"),
        (
            np.array([[(128, 0, 0), (0, 0, 0)]] * 2, np.uint8),
            None,
            "these 2 fit camvid or camvid11 or",
        ),
        (SMOOTH, TABLE, "are those of a JPEG, or of a map that was resized smoothly"),
        (
            COLOURED,
            "coco",
            "palette must be one of ade20k, camvid, camvid11, cityscapes, voc, or a",
        ),
        (COLOURED, np.zeros((3, 4), int), "palette must be (n, 3) integers, got (3, 4)"),
        (COLOURED, {0: "red"}, "palette must have colours of red, green, blue, got 'red'"),
        (COLOURED, [(0, 0, 300)], "palette must have colours of 0 to 255, got (0, 0, 300)"),
        (COLOURED, {}, "palette must have colours, got none"),
        (COLOURED.astype(np.uint16) * 257, TABLE, "must have 8 bits per channel, got up to 65535"),
    ],
)
def test_colours_that_fit_no_table_are_refused(labels, palette, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read(labels, palette)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "10 20 30 sky\n1 2 road\n", "must have lines of red, green, blue and a name"),
        ("p.txt", "nothing\n", "palette must have colours, got none"),
        ("p.json", "5", "must have a list or an object of colours"),
        ("p.json", "{", "must be JSON"),
        ("p.json", '{"-2": [1, 2, 3]}', "must have labels of 0 to 65535, or -1 for void, got -2"),
        ("p.txt", "70000 1 2 3 sky\n", "or -1 for void, got 70000"),
    ],
)
def test_file_that_is_no_palette_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read_palette(tmp_path / name)


def test_labelmap_of_cvat_is_a_table(tmp_path):
    path = tmp_path / "labelmap.txt"
    path.write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar 2:128,0,0::\n")
    palette = read_palette(path)
    assert palette.labels_of(palette.colours).tolist() == [0, 1]
