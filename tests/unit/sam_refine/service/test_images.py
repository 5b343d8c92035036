import io

import numpy as np
import pytest
from PIL import Image

from sam_refine.algorithm.canvas import preprocess_shape
from sam_refine.contract import InvalidRequestError, Limits
from sam_refine.service.images import decode_image, to_canvas
from support.inputs.forms import png

MANY = Limits()


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((360, 480), (768, 1024)),
        ((1024, 1024), (1024, 1024)),
        ((400, 600), (683, 1024)),
        ((600, 401), (1024, 684)),  # 684.37
        ((3000, 2999), (1024, 1024)),  # 1023.66 rounds up
        ((1, 3000), (1, 1024)),
        ((3, 2048), (2, 1024)),  # exactly 1.5
        ((5, 2048), (3, 1024)),  # exactly 2.5
    ],
)
def test_preprocess_shape_rounds_half_up_and_keeps_a_row(size, expected):
    assert preprocess_shape(*size, 1024) == expected


def test_to_canvas_is_the_pil_resize_in_the_top_left_corner():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    canvas, size = to_canvas(image)
    assert size == (768, 1024)
    expected = Image.fromarray(image).resize((1024, 768), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(canvas[:768], np.asarray(expected))
    assert canvas.shape == (1024, 1024, 3)
    assert not canvas[768:].any()


def test_decode_image_png_gives_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(encoded(image), MANY), image)


def test_decode_image_grey_jpeg_becomes_rgb():
    decoded = decode_image(encoded(np.full((8, 8), 77, np.uint8), "JPEG"), MANY)
    assert decoded.shape == (8, 8, 3)
    assert np.abs(decoded.astype(int) - 77).max() <= 1


def test_decode_image_ignores_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    decoded = decode_image(encoded(np.zeros((4, 10, 3), np.uint8), "JPEG", exif=exif), MANY)
    assert decoded.shape == (4, 10, 3)


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "limits", "message"),
    [
        (b"", MANY, "got 0 bytes that are neither"),
        (b"GIF89a and so on", MANY, "must be a JPEG or PNG file, got 16 bytes that are neither"),
        (encoded(NOISE, "BMP"), MANY, "that are neither"),
        (encoded(NOISE)[:3000], MANY, "must be an undamaged JPEG or PNG file"),
        (encoded(NOISE, "JPEG")[:1500], MANY, "must be an undamaged JPEG or PNG file"),
        (encoded(NOISE), Limits(max_image_side=63), "sides of at most 63, got 64 x 64"),
        (encoded(NOISE[..., 0].astype(np.uint16)), MANY, "must have 8 bits per channel"),
        (png(NOISE.astype(np.uint16) * 257, 16), MANY, "must have 8 bits per channel"),
        (png(NOISE[..., :2].astype(np.uint16) * 257, 16), MANY, "must have 8 bits per channel"),
        (
            encoded(NOISE),
            Limits(max_image_pixels=4095),
            "ENCODED_IMAGE must have 1 to 4095 pixels, got 64 x 64",
        ),
    ],
)
def test_decode_image_of_bad_bytes_is_refused(data, limits, message):
    with pytest.raises(InvalidRequestError, match=message):
        decode_image(data, limits)
