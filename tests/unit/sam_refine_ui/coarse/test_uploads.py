"""Files as they were uploaded become arrays, or one sentence that says why not."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import InvalidRequestError
from sam_refine_client.files.pictures import grey_picture, palette_picture
from sam_refine_ui.coarse.uploads import read_labels, read_photo, read_scores

LABELS = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)


def saved(path, array):
    np.save(path, array)
    return path


# --- read_photo ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_read_photo_of_any_mode_of_8_bits_is_rgb(tmp_path, mode):
    path = tmp_path / ("photo.jpg" if mode == "CMYK" else "photo.png")
    Image.new(mode, (7, 5)).save(path)
    photo = read_photo(path)
    assert (photo.shape, photo.dtype) == ((5, 7, 3), np.uint8)


def test_read_photo_turned_by_its_exif_is_as_browsers_show_it(tmp_path):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[274] = 6  # turn clockwise by a quarter
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    photo = read_photo(tmp_path / "photo.png")
    assert photo.shape == (8, 4, 3)
    assert photo[:4].min() == 255
    assert photo[4:].max() == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the photo must be a picture, got something else"),
        (b"no picture", "the photo must be a picture, got something else"),
        (None, "the photo cannot be read: "),
    ],
)
def test_read_photo_of_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "photo.png"
    if content is None:  # cut off in the middle
        stream = io.BytesIO()
        Image.effect_noise((64, 64), 100).save(stream, "PNG")
        content = stream.getvalue()[:1000]
    path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=message):
        read_photo(path)


def test_read_photo_of_16_bits_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "photo.png")
    with pytest.raises(InvalidRequestError, match="the photo must have 8 bits per channel, got"):
        read_photo(tmp_path / "photo.png")


def test_read_photo_too_large_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("1", (16385, 1)).save(path)
    with pytest.raises(InvalidRequestError, match="sides of at most 16384, got 16385 x 1"):
        read_photo(path)


# --- read_labels -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_read_labels_of_npy_are_the_integers(tmp_path, dtype):
    found = read_labels(saved(tmp_path / "labels.npy", LABELS.astype(dtype)), (2, 3))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, LABELS)


def test_read_labels_of_a_boolean_mask_are_0_and_1(tmp_path):
    found = read_labels(saved(tmp_path / "mask.npy", LABELS > 1), (2, 3))
    np.testing.assert_array_equal(found, LABELS > 1)


@pytest.mark.parametrize("form", ["palette", "grey", "16 bits"])
def test_read_labels_of_a_png_are_its_pixel_values(tmp_path, form):
    path = tmp_path / "labels.PNG"
    labels = LABELS.astype(np.int32)
    if form == "palette":
        palette_picture(labels).save(path)
    elif form == "grey":
        Image.fromarray(LABELS).save(path)
    else:
        labels = labels * 257
        grey_picture(labels).save(path)
    np.testing.assert_array_equal(read_labels(path, (2, 3)), labels)


def test_read_labels_of_a_mask_of_one_bit_are_0_and_1(tmp_path):
    Image.fromarray(LABELS > 1).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.png", (2, 3)), LABELS > 1)


def test_read_labels_of_lower_resolution_are_stretched(tmp_path):
    found = read_labels(saved(tmp_path / "labels.npy", LABELS), (4, 6))
    np.testing.assert_array_equal(found, LABELS.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (LABELS[..., None], "the label map must be (H, W) integers, got (2, 3, 1) uint8"),
        (LABELS.astype(np.float32), "the label map must be (H, W) integers, got (2, 3) float32"),
        (LABELS.T, "the label map must have the photo's shape, got 2 x 3 for a photo of 3 x 2"),
        (LABELS.astype(np.int64) - 1, "labels must be in [0, 65535], got -1"),
        (LABELS.astype(np.int64) + 65500, "labels must be in [0, 65535], got 65755"),
        (LABELS[:0], "the label map must have values, got (0, 3)"),
        (np.array([[None]]), "the label map must be a .npy file of numbers, got something else"),
    ],
)
def test_read_labels_of_an_array_that_is_no_label_map_is_refused(tmp_path, array, message):
    path = saved(tmp_path / "labels.npy", array)
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(message)}$"):
        read_labels(path, (2, 3))


def test_read_labels_of_a_coloured_picture_are_refused(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "labels.png")
    with pytest.raises(InvalidRequestError, match=r"palette or in grey, .* got PNG of mode RGB"):
        read_labels(tmp_path / "labels.png", (2, 3))


def test_read_labels_of_a_jpeg_are_refused_as_its_values_are_not_exact(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "labels.png", "JPEG")
    with pytest.raises(InvalidRequestError, match="got JPEG of mode L"):
        read_labels(tmp_path / "labels.png", (2, 3))


# --- read_scores -----------------------------------------------------------------------------


def test_read_scores_are_what_was_saved(tmp_path):
    scores = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float16)
    found = read_scores(saved(tmp_path / "scores.npy", scores))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, scores)


def test_read_scores_of_a_file_that_claims_to_be_larger_are_refused(tmp_path):
    path = saved(tmp_path / "scores.npy", np.zeros((2, 3, 4), np.float32))
    path.write_bytes(path.read_bytes().replace(b"(2, 3, 4)", b"(99,99,9)"))
    with pytest.raises(InvalidRequestError, match=r"must be a \.npy file of numbers"):
        read_scores(path)


def test_read_scores_of_an_archive_are_refused(tmp_path):
    with (tmp_path / "scores.npy").open("wb") as file:
        np.savez(file, scores=np.zeros((1, 1, 1)))
    with pytest.raises(
        InvalidRequestError, match=r"must be a \.npy file, got an archive of arrays"
    ):
        read_scores(tmp_path / "scores.npy")


def test_read_scores_of_a_pickle_are_refused_and_not_run(tmp_path):
    path = tmp_path / "scores.npy"
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InvalidRequestError, match=r"must be a \.npy file of numbers"):
        read_scores(path)
