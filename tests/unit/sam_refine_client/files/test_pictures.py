"""Palette PNGs come back as they went in; the before/after picture shows what it was given."""

import re

import numpy as np
import pytest
from PIL import Image

from sam_refine_client.files.colours import class_palette
from sam_refine_client.files.pictures import (
    before_after,
    grey_picture,
    overlay,
    palette_picture,
)


def contains_colour(picture: Image.Image, colour: tuple[int, int, int], *, below: float) -> bool:
    """Whether an opaque patch of the colour lies under `below` x the picture's height."""
    pixels = np.asarray(picture)[int(picture.height * below) :]
    return int((pixels == np.array(colour)).all(-1).sum()) >= 16 * 16


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


# --- Label maps as pictures ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("top", [0, 1, 3, 15, 16, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (23, 31)])
def test_palette_picture_has_the_labels_as_pixel_values_and_the_class_colours(dtype, top, shape):
    labels = np.random.default_rng(top).integers(0, top + 1, shape).astype(dtype)
    labels[0, 0] = top
    before = labels.copy()
    picture = palette_picture(labels)
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), labels)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), class_palette(256)[labels])
    np.testing.assert_array_equal(np.asarray(grey_picture(labels)), labels)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("top", [256, 65535])
def test_grey_picture_above_255_is_a_16_bit_png_of_the_labels(tmp_path, top):
    labels = np.array([[0, 1, 255], [256 % top, 7, top]], np.int32)
    grey_picture(labels).save(tmp_path / "labels.png")
    header = (tmp_path / "labels.png").read_bytes()[:26]
    assert header[24:26] == b"\x10\x00"  # IHDR: 16 bits, grey
    with Image.open(tmp_path / "labels.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), labels)


def test_palette_picture_with_a_palette_uses_it_and_black_past_its_end():
    palette = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    picture = palette_picture(np.array([[0, 1, 2, 255]]), palette)
    np.testing.assert_array_equal(np.asarray(picture), [[0, 1, 2, 255]])
    colours = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(colours, [[[1, 2, 3], [4, 5, 6], [0, 0, 0], [0, 0, 0]]])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0, -1]]), "labels must be in [0, 65535] for a PNG, got -1"),
        (np.array([[0, 65536]]), "labels must be in [0, 65535] for a PNG, got 65536"),
        (np.zeros((2, 2), np.float32), "integers, H and W at least 1, got (2, 2) float32"),
        (np.zeros((2, 2), np.bool_), "integers, H and W at least 1, got (2, 2) bool"),
        (np.zeros(4, np.int32), "labels must be (H, W) integers, H and W at least 1, got (4,)"),
        (np.zeros((0, 4), np.int32), "H and W at least 1, got (0, 4) int32"),
    ],
)
def test_grey_picture_of_what_is_no_label_map_is_refused(labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        grey_picture(labels)


@pytest.mark.parametrize("palette", [np.zeros((2, 4), np.uint8), np.zeros((2, 3), np.float32)])
def test_palette_picture_with_what_is_no_palette_is_refused(palette):
    message = f"palette must be (n, 3) uint8, got {palette.shape} {palette.dtype}"
    with pytest.raises(ValueError, match=re.escape(message)):
        palette_picture(np.zeros((2, 2), np.int32), palette)


# --- before_after ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "is_stacked"),
    [
        ((1, 1), False),
        ((400, 600), False),
        ((600, 400), False),
        ((100, 500), True),
        ((1, 3000), True),
        ((3000, 1), False),
        ((2500, 3500), False),
    ],
)
def test_before_after_of_any_size_stays_readable_and_bounded(size, is_stacked):
    labels = np.zeros(size, np.int32)
    labels[size[0] // 2 :] = 1
    picture = before_after(photo(*size), labels, labels, ["one", "two"])
    assert picture.mode == "RGB"
    assert 600 <= picture.width <= 2600
    assert picture.height <= 2100
    middle = np.asarray(picture)[:, picture.width // 2]
    assert (middle == 255).all() == (not is_stacked)


def test_before_after_shows_each_map_on_its_own_side():
    grey = np.full((90, 120, 3), 128, np.uint8)
    red, green = np.array([[200, 0, 0], [0, 200, 0]], np.uint8)
    coarse, refined = np.zeros((90, 120), np.int32), np.ones((90, 120), np.int64)
    picture = before_after(grey, coarse, refined, palette=np.stack([red, green]))
    pixels = np.asarray(picture).astype(int)
    row = pixels[picture.height // 4]
    before, after, changed = (row[picture.width * place // 12] for place in (1, 5, 11))
    np.testing.assert_array_equal(before, (128 + red.astype(int)) // 2)
    np.testing.assert_array_equal(after, (128 + green.astype(int)) // 2)
    np.testing.assert_array_equal(changed, green)


def test_before_after_enlarges_where_most_has_changed():
    """A quarter of each side: the change, 20 x 15 pixels, is all that the lower row shows."""
    grey = np.full((120, 160, 3), 128, np.uint8)
    coarse = np.zeros((120, 160), np.int32)
    refined = coarse.copy()
    refined[90:105, 30:50] = 1
    refined[10, 10] = 1  # less
    palette = np.array([[200, 0, 0], [0, 200, 0]], np.uint8)
    picture = before_after(grey, coarse, refined, palette=palette)
    plain = before_after(grey, coarse, coarse, palette=palette)
    height = plain.height - 24  # of the upper row
    assert picture.height - plain.height == plain.height - 50 - 24  # no title, one margin less
    changed = np.asarray(picture)[height:, picture.width * 2 // 3 :]
    share = (changed == palette[1]).all(-1).sum() / (832 * 624)
    assert share == pytest.approx(15 * 20 / (30 * 40), abs=0.01)
    upper = np.asarray(picture)[50:height, picture.width * 2 // 3 :]
    assert (upper == palette[1]).all(-1).mean() < 0.03
    assert (upper == 255).all(-1)[100:-100, 100:-100].any()  # the frame


def test_before_after_outlines_the_border_of_two_classes_and_nothing_else():
    labels = np.zeros((90, 120), np.int32)
    plain = before_after(np.zeros((90, 120, 3), np.uint8), labels, labels)
    labels[:, 60:] = 1
    split = before_after(np.zeros((90, 120, 3), np.uint8), labels, labels)
    inside = np.s_[plain.height // 3 : -plain.height // 3]
    white = [(np.asarray(p)[inside] == 255).all(-1) for p in (plain, split)]
    lines = np.flatnonzero((white[1] & ~white[0]).all(axis=0))
    assert len(lines) == 4  # two pixels wide, in both panels
    assert not (white[1] & ~white[0])[:, np.setdiff1d(np.arange(plain.width), lines)].any()


def test_before_after_legend_names_the_classes_present_and_no_others():
    palette = np.array([[250, 1, 1], [1, 250, 1], [1, 1, 250], [250, 250, 1]], np.uint8)
    coarse = np.zeros((40, 60), np.int32)
    refined = coarse.copy()
    refined[:, 30:] = 2
    names = ["first", "second", "third", "fourth"]
    picture = before_after(photo(40, 60), coarse, refined, names, palette)
    shown = [contains_colour(picture, tuple(colour), below=0.9) for colour in palette.tolist()]
    assert shown == [True, False, True, False]
    bare = before_after(photo(40, 60), coarse, refined, palette=palette)
    assert bare.height < picture.height
    assert np.array_equal(np.asarray(bare), np.asarray(picture)[: bare.height])


def test_before_after_labels_without_a_colour_stay_as_the_photo():
    grey = np.full((90, 120, 3), 77, np.uint8)
    palette = np.array([[250, 1, 1]], np.uint8)
    labels = np.full((90, 120), -1, np.int32)
    past = np.full((90, 120), 255, np.uint8)
    picture = before_after(grey, labels, past, ["only"], palette)
    pixels = np.asarray(picture)
    assert (pixels == 77).all(-1).mean() > 0.8
    assert not contains_colour(picture, (250, 1, 1), below=0)


def test_before_after_classes_past_256_and_past_the_names_are_coloured_and_named_by_number():
    labels = np.full((40, 60), 300, np.int32)
    picture = before_after(photo(40, 60), labels, labels, ["zero"])
    colour = tuple(class_palette(256)[300 - 256].tolist())
    assert contains_colour(picture, colour, below=0.9)


@pytest.mark.slow
def test_before_after_legend_of_many_long_names_wraps_within_the_picture():
    labels = np.arange(150).repeat(16).reshape(40, 60)
    names = [f"class of a rather long name {i}" for i in range(149)] + ["endless " * 200]
    picture = before_after(photo(40, 60), labels, labels, names)
    pixels = np.asarray(picture)
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, -20:] == 255).all()
    assert (pixels[-20:] == 255).all()
    for label in (0, 75, 149):
        assert contains_colour(picture, tuple(class_palette(150)[label].tolist()), below=0.15)


@pytest.mark.parametrize(("first", "second"), [("u1", "i8"), ("u8", "i4"), ("u8", "i8")])
def test_before_after_of_maps_of_different_dtypes_equals_that_of_one(first, second):
    labels = np.arange(6).repeat(4).reshape(4, 6)
    names = list("abcdef")
    same = before_after(photo(4, 6), labels, labels, names)
    mixed = before_after(photo(4, 6), labels.astype(first), labels.astype(second), names)
    assert mixed.tobytes() == same.tobytes()


def test_before_after_arguments_do_not_change():
    image, coarse, refined = photo(8, 9), np.zeros((8, 9), np.int32), np.ones((8, 9), np.int32)
    for array in (image, coarse, refined):
        array.setflags(write=False)
    first, second = (before_after(image, coarse, refined, ["a", "b"]) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    ("image", "coarse", "refined", "message"),
    [
        ((8, 9), (8, 9), (8, 9), "image must have shape (H, W, 3), H and W at least 1, got (8, 9)"),
        ((0, 9, 3), (0, 9), (0, 9), "image must have shape (H, W, 3), H and W at least 1, got (0,"),
        ((8, 9, 3), (9, 8), (8, 9), "coarse_labels must be (8, 9) like the image, got (9, 8)"),
        ((8, 9, 3), (8, 9), (8,), "refined_labels must be (H, W) integers"),
    ],
)
def test_before_after_of_arrays_that_do_not_fit_is_refused(image, coarse, refined, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        before_after(
            np.zeros(image, np.uint8), np.zeros(coarse, np.int32), np.zeros(refined, np.int32)
        )


def test_before_after_of_a_float_image_is_refused():
    labels = np.zeros((2, 2), np.int32)
    with pytest.raises(ValueError, match="image must be uint8, got float32"):
        before_after(np.zeros((2, 2, 3), np.float32), labels, labels)


# --- overlay ---------------------------------------------------------------------------------


def test_overlay_tints_each_class_and_outlines_it():
    grey = np.full((90, 120, 3), 100, np.uint8)
    labels = np.zeros((90, 120), np.int32)
    labels[:, 60:] = 1
    palette = np.array([[110, 120, 130], [230, 85, 80]], np.uint8)
    pixels = np.asarray(overlay(grey, labels, palette)).astype(int)
    assert pixels.shape == (900, 1200, 3)
    for column, colour in ((100, palette[0]), (1100, palette[1])):
        np.testing.assert_allclose(
            pixels[:, column], [(100 + colour.astype(int)) / 2] * 900, atol=1
        )
    assert (pixels[:, 599:601] == 255).all()


@pytest.mark.parametrize(
    ("image", "labels", "palette", "message"),
    [
        ((8, 9), (8, 9), (2, 3), "image must have shape (H, W, 3)"),
        ((8, 9, 3), (9, 8), (2, 3), "labels must be (8, 9) like the image, got (9, 8)"),
        ((8, 9, 3), (8, 9), (2, 4), "palette must be (n, 3) uint8, got (2, 4) uint8"),
    ],
)
def test_overlay_of_arrays_that_do_not_fit_is_refused(image, labels, palette, message):
    arrays = np.zeros(image, np.uint8), np.zeros(labels, np.int32), np.zeros(palette, np.uint8)
    with pytest.raises(ValueError, match=re.escape(message)):
        overlay(*arrays)
