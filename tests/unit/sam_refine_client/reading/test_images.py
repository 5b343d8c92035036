"""Images in all forms become the same RGB of 8 bits, or are refused with what to do."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from sam_refine.contract import InvalidRequestError
from sam_refine_client.reading.images import read_image, rgb_of, upright_rgb_of
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.scores import scores_size_of
from support.inputs.forms import png, tiff16

RGB = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(np.uint8)
RGB[0, 0] = 255  # so that all bits are in use
GREY = RGB[..., 0]
THREE = np.repeat(GREY[..., None], 3, axis=2)
OPAQUE = np.full((6, 10), 255)
DEEP = RGB.astype(np.uint16) * 257


def read(image, **arguments):
    notes = Notes()
    found = read_image(image, notes, **arguments)
    return found, notes.sentences


def saved(array, mode=None, **options):
    file = io.BytesIO()
    picture = Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(file, **options)
    return file.getvalue()


def turned(orientation, kind="PNG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(RGB, format=kind, exif=exif)


# --- Taken -----------------------------------------------------------------------------------

CERTAIN = {
    "RGB": (RGB, RGB),
    "PIL": (Image.fromarray(RGB), RGB),
    "int64": (RGB.astype(np.int64), RGB),
    "float [0, 1]": (RGB.astype(np.float32) / 255, RGB),
    "float16 [0, 1]": ((GREY > 9).astype(np.float16), np.where(THREE > 9, 255, 0)),
    "float [0, 255]": (RGB.astype(np.float64), RGB),
    "grey": (GREY, THREE),
    "grey, an axis of 1": (GREY[..., None], THREE),
    "grey, channels first": (GREY[None], THREE),
    "RGBA": (np.dstack([RGB, OPAQUE.astype(np.uint8)]), RGB),
    "channels first": (RGB.transpose(2, 0, 1), RGB),
    "batch, channels first": (RGB.transpose(2, 0, 1)[None], RGB),
    "batch, channels last": (RGB[None], RGB),
    "RGBA, channels first": (np.dstack([RGB, OPAQUE]).transpose(2, 0, 1).astype(np.uint8), RGB),
    "tensor": (torch.from_numpy(RGB).permute(2, 0, 1).float().div(255).requires_grad_(), RGB),
    "bfloat16 tensor": (torch.ones(3, 6, 10, dtype=torch.bfloat16), np.full((6, 10, 3), 255)),
    "uint16": (DEEP, RGB),
    "WebP": (saved(RGB, format="WEBP", lossless=True), RGB),
    "TIFF": (saved(RGB, format="TIFF"), RGB),
    "BMP": (saved(RGB, format="BMP"), RGB),
    "TIFF of floats": (saved(GREY.astype(np.float32), format="TIFF"), THREE),
    "16-bit RGB PNG": (png(DEEP, 16), RGB),
    "16-bit RGBA PNG": (png(np.dstack([DEEP, OPAQUE * 257]), 16), RGB),
    "16-bit grey and alpha PNG": (png(np.dstack([DEEP[..., 0], OPAQUE * 257]), 16), THREE),
    "16-bit grey PNG": (png(DEEP[..., 0], 16), THREE),
    "16-bit RGB TIFF": (tiff16(DEEP, "<"), RGB),
    "16-bit RGB TIFF, big endian": (tiff16(DEEP, ">"), RGB),
    "16-bit PIL image": (Image.open(io.BytesIO(png(DEEP, 16))), RGB),
}


@pytest.mark.parametrize("form", CERTAIN)
def test_image_whose_meaning_is_certain_is_taken_and_nothing_said(form):
    image, expected = CERTAIN[form]
    found, said = read(image)
    assert said == ()
    assert found.pixels.dtype == np.uint8
    assert found.size_hw == (6, 10)
    np.testing.assert_array_equal(found.pixels, expected)


@pytest.mark.parametrize("form", ["RGB", "L", "P", "1", "LA", "RGBA"])
def test_png_of_8_bits_or_less_is_sent_as_it_is(form):
    content = saved(RGB, form, format="PNG")
    found, said = read(content)
    assert (found.file, found.pixels, said) == (content, None, ())
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(rgb_of(content), expected)


def test_grey_png_of_4_bits_is_an_image_as_browsers_show_it():
    content = png(np.arange(16).reshape(4, 4), 4)
    np.testing.assert_array_equal(rgb_of(content)[..., 0], np.arange(0, 256, 17).reshape(4, 4))


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_deep_image_of_fewer_bits_is_scaled_by_those_in_use_and_said(bits):
    array = (RGB.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    for image in (png(array, 16), array, png(np.dstack([array, OPAQUE * 257]), 16)):
        found, (said,) = read(image)
        assert f"of which {bits} are in use (at most {2**bits - 1})" in said
        assert np.abs(found.pixels.astype(int) - RGB).max() <= 1


def test_image_of_0_and_1_is_said():
    _, said = read(np.eye(6, 10, dtype=np.uint8))
    assert said == ("image has no value above 1: if it was in [0, 1], give it as floats",)


def test_cmyk_jpeg_is_sent_and_said():
    content = saved(RGB, "CMYK", format="JPEG")
    found, said = read(content)
    assert found.file == content
    assert said == ("image is CMYK: made RGB without its colour profile",)


@pytest.mark.parametrize("as_file", [True, False])
def test_transparent_pixels_are_said(as_file):
    rgba = np.dstack([RGB, np.where(GREY > 99, 255, 0).astype(np.uint8)])
    found, (said,) = read(saved(rgba, format="PNG") if as_file else rgba)
    assert "transparent pixels" in said
    np.testing.assert_array_equal(rgb_of(rgba), RGB)
    assert (found.file is not None) == as_file


def test_frames_after_the_first_are_said():
    file = io.BytesIO()
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    first.save(file, format="TIFF", save_all=True, append_images=[second])
    found, said = read(file.getvalue())
    assert said == ("image has 2 frames: the first is taken",)
    np.testing.assert_array_equal(found.pixels, RGB)


# --- EXIF ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [2, 6, 8])
def test_orientation_is_left_alone_and_said(orientation, kind):
    found, (said,) = read(turned(orientation, kind), like_hw=(6, 10))
    assert f"EXIF orientation {orientation}" in said
    assert "exif_transpose" in said
    assert found.size_hw == (6, 10)


def test_tiff_is_turned_upright_as_pillow_does_and_said():
    found, said = read(turned(6, "TIFF"))
    assert said == ("image is turned upright, as its TIFF orientation 6 says",)
    np.testing.assert_array_equal(found.pixels, np.rot90(RGB, -1))


@pytest.mark.parametrize("as_picture", [True, False])
@pytest.mark.parametrize(("orientation", "turns"), [(6, -1), (8, 1)])
def test_image_is_turned_upright_where_only_so_it_fits_its_labels(orientation, turns, as_picture):
    image = turned(orientation)
    if as_picture:
        image = Image.open(io.BytesIO(image))
        image.load()
    found, (said,) = read(image, like_hw=(10, 6))
    assert "turned upright" in said
    np.testing.assert_array_equal(found.pixels, np.rot90(RGB, turns))


def test_upright_is_how_browsers_show_it(tmp_path):
    (tmp_path / "a.png").write_bytes(turned(6))
    notes = Notes()
    found = upright_rgb_of("the photo", tmp_path / "a.png", notes)
    np.testing.assert_array_equal(found, np.rot90(RGB, -1))
    assert notes.sentences == (
        "the photo is turned upright, as its EXIF data say and browsers show it",
    )


# --- Refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [RGB / 255 * 1.0005, RGB / 254.99, RGB * 1.0005 - 0.01])
def test_floats_that_are_beyond_the_range_by_rounding_are_taken(image):
    np.testing.assert_allclose(rgb_of(image), RGB, atol=1)


def test_opened_file_is_read_from_its_beginning_as_often_as_is_asked():
    file = io.BytesIO(saved(RGB, format="PNG"))
    file.seek(5)
    for _ in range(2):
        np.testing.assert_array_equal(rgb_of(file), RGB)


def closed_file():
    file = io.BytesIO(saved(RGB, format="PNG"))
    file.close()
    return file


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (5, "image must be an array, a PIL image, bytes or a path, got int"),
        (np.zeros((6, 10), bool), "image must be uint8, got bool; a mask goes to labels="),
        (np.zeros((0, 10, 3), np.uint8), "image must have values, got the shape (0, 10, 3)"),
        (np.zeros((6, 10, 5), np.uint8), "image must have shape (H, W, 3)"),
        (np.stack([RGB, RGB]), "got a batch of 2, (2, 6, 10, 3); give each its own call: image[i]"),
        (RGB / 255 - 0.4, "if it was normalised, undo that: image * std + mean"),
        (RGB / 255 * 1.02, "got up to 1.02; give np.clip(image, 0, 1)"),
        (RGB / 127.5 - 1, "if it is in [-1, 1], give (image + 1) / 2"),
        (RGB / 127.5 * 1.0004 - 1.0002, "if it is in [-1, 1], give (image + 1) / 2"),
        (RGB * 1.4 - 101.9, "got -101.9 to 255.1; if it was normalised, undo that"),
        (RGB / 255 * 1.2 - 0.1, "got -0.1 to 1.1; if resizing overshot, give np.clip"),
        (RGB / 255 - 0.1, "if resizing overshot, give np.clip(image, 0, 1)"),
        (RGB / 85 - 0.1, "if it was normalised, undo that: image * std + mean"),
        ("https://a.example/b.jpg", "got the URL 'https://a.example/b.jpg', which is not fetched"),
        ("data:image/png;base64,iVBORw0KGgo", "of base64 give base64.b64decode(text)"),
        ("iVBORw0KGgo" * 500, "got text that is none, 'iVBORw0KGgoiVBORw0KG'...; of base64 give"),
        ("a\0b", "image must be a path, got text that is none"),
        (
            {"bytes": b"", "path": None},
            'dict of bytes, path; give the one that is the image: image["',
        ),
        ([RGB], "got list; give one: image[0]"),
        (RGB.tolist(), "got list; give np.asarray(image)"),
        (b"", "must be a picture such as JPEG or PNG, got an empty file"),
        (b"<!DOCTYPE html>", "got a web page; take the link to the file itself"),
        (b"version https://git-lfs.github.com/spec/v1", "got a Git LFS pointer; run git lfs pull"),
        (
            b"II*\0" + bytes(90),
            "got a TIFF that is damaged, or of a form that Pillow does not read",
        ),
        (RGB * 257.0, "got up to 65535; give image / image.max()"),
        (np.full((6, 10), np.nan), "got NaN or infinite values"),
        (
            GREY.astype(np.int16) * 8 - 1000,
            "got -992 to 1040; if they are measured, as in CT, give",
        ),
        (
            GREY * 8.0 - 1000,
            "got -992 to 1040; if they are measured, as in CT, give a window: np.",
        ),
        (np.zeros((6, 10, 5), np.uint8), "give three: image[..., [red, green, blue]]"),
        (np.zeros((12, 60, 70), np.uint8), "give three: image[[red, green, blue]]"),
        (b"\x93NUMPY", "got a .npy; give its array: np.load(...)"),
        (RGB.astype(int) - 1, "in [0, 65535] of 16 bits, got -1 to 254"),
        (RGB.astype(int) * 1000, "got 0 to 255000"),
        (np.zeros((6, 10, 3), complex), "image must be uint8, got complex128"),
        (b"no picture", "image must be a picture such as JPEG or PNG, got text"),
        (closed_file(), "an opened file must be readable from its start: I/O operation on closed"),
        (saved(RGB, format="PNG")[:60], "image must be a"),
        (Image.new("La", (10, 6)), "got the mode La: conversion from La"),
    ],
)
def test_image_that_is_wrong_is_refused_with_what_to_do(image, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        rgb_of(image)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
        rgb_of(tmp_path / "missing.jpg")


def test_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    bomb = bytearray(saved(np.zeros((1, 1), np.uint8), format="BMP"))
    bomb[18:26] = (9000).to_bytes(4, "little") * 2
    with pytest.raises(InvalidRequestError, match="at most 67108864 pixels, got 9000 x 9000"):
        rgb_of(bytes(bomb))


@pytest.mark.parametrize(
    ("scores_hw", "size_hw"),
    [((5, 3), (10, 6)), ((10, 6), (10, 6)), ((3, 5), (6, 10)), ((4, 4), (6, 10)), (None, (6, 10))],
)
def test_photo_is_turned_upright_where_only_so_the_scores_have_its_proportions(scores_hw, size_hw):
    found, (said,) = read(turned(6), scores_hw=scores_hw)
    assert found.size_hw == size_hw
    because = "ned upright, as its EXIF data say, because only so the scores have its proportions"
    assert said.endswith(because) == (size_hw == (10, 6))


@pytest.mark.parametrize(
    ("shape", "size"),
    [((3, 50, 40), (50, 40)), ((1, 3, 50, 40), (50, 40)), ((50, 40, 3), None), ((50, 40), None)],
)
def test_size_of_scores_is_told_where_the_classes_come_first(shape, size):
    assert scores_size_of(torch.zeros(shape)) == size
    assert scores_size_of({"logits": np.zeros(shape)}) == size
