"""What a result says of itself, and how it is shown."""

from __future__ import annotations

import io
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import InvalidRequestError, Outcome
from sam_refine_client import RefineResult, Region
from sam_refine_client.files.colours import class_palette
from sam_refine_client.files.pictures import before_after, without_photo

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.fixture
def result():
    labels, coarse_labels = np.zeros((2, 60, 80), np.int32)
    labels[:, 40:] = 2
    coarse_labels[:, 60:] = 2
    regions = (
        Region(0, (0, 0, 5, 5), 0.7, 0.9, True, Outcome.REFINED, -1, 0.0),
        Region(2, (6, 0, 7, 5), 0.5, 0.2, False, Outcome.LOW_IOU, -1, 0.0),
    )
    logits = np.zeros((3, 60, 80), np.float32)
    return RefineResult(labels, coarse_labels, logits, regions, {"a": 1.25, "b": 40.0}, "x")


def test_repr_is_one_short_line(result):
    assert repr(result) == (
        "<RefineResult: labels 60 x 80, coarse_labels 60 x 80, logits 3 x 60 x 80, "
        "1 of 2 regions kept, 41 ms>"
    )
    bare = replace(result, labels=None, coarse_labels=None, logits=None, regions=None, timings={})
    assert repr(bare) == "<RefineResult: 0 ms>"


def test_results_are_equal_only_to_themselves_and_can_be_in_sets(result):
    other = pickle.loads(pickle.dumps(result))
    assert result == result
    assert result != other
    assert {result, result, other} == {other, result}
    assert len({result, other}) == 2


def test_changed_is_where_the_maps_differ(result):
    assert result.changed.dtype == np.bool_
    assert result.changed[:, 40:60].all()
    assert result.changed.sum() == 60 * 20
    assert result.changed_fraction == 0.25


@pytest.mark.parametrize("output", ["labels", "coarse_labels"])
def test_changed_and_overlay_without_one_of_the_maps_name_the_outputs(result, output):
    given = replace(result, **{output: None})
    for ask in (lambda: given.changed_fraction, lambda: given.overlay(PHOTO)):
        with pytest.raises(ValueError, match='needs the outputs "labels" and "coarse_labels"'):
            ask()


# --- overlay ---------------------------------------------------------------------------------


def encoded(picture, **options):
    file = io.BytesIO()
    picture.save(file, format="PNG", **options)
    return file.getvalue()


def test_overlay_is_before_after_with_a_legend_of_numbers_or_names(result):
    maps = result.coarse_labels, result.labels
    assert result.overlay(PHOTO).tobytes() == before_after(PHOTO, *maps, ["0", "", "2"]).tobytes()
    names, palette = ["a", "b", "c"], class_palette(9)[4:]
    picture = result.overlay(PHOTO, class_names=names, palette=palette)
    assert picture.mode == "RGB"
    assert picture.tobytes() == before_after(PHOTO, *maps, names, palette).tobytes()


def test_overlay_takes_an_image_in_every_form_that_refine_takes(tmp_path, result):
    expected = result.overlay(PHOTO).tobytes()
    picture = Image.fromarray(PHOTO)
    picture.save(tmp_path / "photo.png")
    path = tmp_path / "photo.png"
    for image in (picture, picture.convert("RGBA"), path, str(path), path.read_bytes()):
        assert result.overlay(image).tobytes() == expected


def test_overlay_shows_the_pixels_as_stored_as_the_server_sees_them(result):
    picture = Image.fromarray(PHOTO)
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = encoded(picture, exif=exif)
    assert result.overlay(turned).tobytes() == result.overlay(PHOTO).tobytes()


def test_overlay_takes_the_image_that_was_refined_or_shows_the_maps_alone(result):
    expected = result.overlay(PHOTO).tobytes()
    assert replace(result, image=PHOTO).overlay().tobytes() == expected
    alone = without_photo(result.coarse_labels, result.labels)
    assert replace(result, image=None).overlay().tobytes() == alone.tobytes()


def test_overlay_and_files_leave_the_results_own_void_uncoloured(result, tmp_path):
    void = replace(result, ignore_label=2)
    expected = result.overlay(PHOTO, ignore_label=2).tobytes()
    assert void.overlay(PHOTO).tobytes() == expected
    void.save(tmp_path, formats=["palette"])
    palette = Image.open(tmp_path / "palette.png").getpalette()
    assert palette[6:9] == [0, 0, 0] != palette[3:6]


@pytest.mark.parametrize("image", ["photo.png", Path("photo.png"), PHOTO, None])
def test_result_is_pickled_without_the_pixels_of_its_image(result, image):
    given = replace(result, image=image, warnings=("so",))
    copy = pickle.loads(pickle.dumps(given))
    assert copy.image == (image if isinstance(image, str | Path) else None)
    assert copy.warnings == ("so",)
    np.testing.assert_array_equal(copy.labels, result.labels)


def test_repr_counts_warnings(result):
    assert "2 warnings" in repr(replace(result, warnings=("a", "b")))


@pytest.mark.parametrize("names", ["names.txt", {0: "a"}])
def test_overlay_with_what_are_no_names_in_a_row_is_refused(result, names):
    with pytest.raises(InvalidRequestError, match="class_names must be several texts"):
        result.overlay(class_names=names)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (PHOTO[:, :70], ValueError, "coarse_labels must be (60, 70) like the image, got (60, 80)"),
        (PHOTO - 300.0, ValueError, "image of floats must be in [0, 1], or in [0, 255]"),
        (5, ValueError, "image must be an array, a PIL image, bytes or a path, got int"),
        (b"no picture", ValueError, "image must be a picture such as JPEG or PNG, got text"),
        ("missing.png", FileNotFoundError, "missing.png"),
    ],
)
def test_overlay_of_an_image_that_does_not_fit_is_refused(result, image, error, message):
    with pytest.raises(error, match=re.escape(message)):
        result.overlay(image)


def test_overlay_leaves_an_ignored_label_uncoloured(result):
    grey = np.full((60, 80, 3), 77, np.uint8)
    ignored = np.asarray(result.overlay(grey, ignore_label=0))
    left = ignored[ignored.shape[0] // 2, ignored.shape[1] // 8]
    assert left.tolist() == [77, 77, 77]
    red = class_palette(1)[0]
    assert (np.asarray(result.overlay(grey)) == red).all(-1).sum() > 500  # in the legend
    assert not (ignored == red).all(-1).any()


# --- Notebooks -------------------------------------------------------------------------------


def shown(result):
    with Image.open(io.BytesIO(result._repr_png_())) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def test_notebooks_show_the_maps_in_their_plain_colours(result):
    picture = shown(result)
    first, second = class_palette(3)[[0, 2]].tolist()
    row = picture[picture.shape[0] // 4]
    colours = [row[round(x * len(row))].tolist() for x in (0.05, 0.15, 0.3, 0.4, 0.6)]
    assert colours == [first, first, second, first, second]


def test_notebooks_show_the_refined_map_alone_where_the_coarse_one_was_not_asked_for(result):
    both, alone = shown(result), shown(replace(result, coarse_labels=None))
    assert alone.shape[1] < 0.4 * both.shape[1]
    assert alone.shape[0] < 0.6 * both.shape[0]
    row = alone[alone.shape[0] // 2]
    colours = [row[round(x * len(row))].tolist() for x in (0.25, 0.75)]
    assert colours == class_palette(3)[[0, 2]].tolist()
    wide = replace(result, labels=result.labels[:8])
    both, alone = (
        shown(replace(wide, coarse_labels=wide.labels)),
        shown(replace(wide, coarse_labels=None)),
    )
    assert alone.shape[0] < 0.7 * both.shape[0]


@pytest.mark.parametrize("labels", [[[0]], [[-1, 5]], [[255] * 500], [[70000], [3]]])
def test_notebooks_show_maps_of_any_size_and_labels(result, labels):
    labels = np.array(labels, np.int32)
    assert shown(replace(result, labels=labels, coarse_labels=labels[::-1])).shape[1] > 500


def test_notebooks_show_the_text_where_there_is_no_map(result):
    assert replace(result, labels=None)._repr_png_() is None
