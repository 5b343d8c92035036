"""The pictures of a page."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
from PIL import Image

from sam_refine_client.arrays import UInt8
from sam_refine_client.files.pictures import overlay
from sam_refine_client.reading.images import rgb_of
from sam_refine_quality.report.gallery import Change, Exhibit

LARGEST: Final = (560, 420)
"""(width, height) of the room for a picture."""
CHANGE_COLOURS: Final = {
    Change.MADE_RIGHT: (46, 160, 67),
    Change.MADE_WRONG: (218, 54, 51),
    Change.NEITHER: (95, 97, 104),
}


def pictures(exhibit: Exhibit) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Coarse map, refined map, changed pixels, each over the image, and of the same size.

    Raises `InvalidRequestError`, `OSError` where the image can no longer be read.
    """
    height, width = exhibit.labels.shape
    image = rgb_of(exhibit.image, like_hw=(height, width))
    coarse = overlay(image, exhibit.coarse_labels)
    refined = overlay(image, exhibit.labels)
    changed = changed_picture(image, exhibit).resize(coarse.size, Image.Resampling.NEAREST)
    for each in (coarse, refined, changed):
        each.thumbnail(LARGEST)
    return coarse, refined, changed


def changed_picture(image: UInt8, exhibit: Exhibit) -> Image.Image:
    """The image (H, W, 3) pale in grey; changed pixels have the colour of what became of them.

    Pixels whose truth is void have none.
    """
    grey = np.asarray(Image.fromarray(image).convert("L"), np.uint16)
    pixels = np.repeat((170 + grey // 3).astype(np.uint8)[..., None], 3, axis=2)
    for change, colour in CHANGE_COLOURS.items():
        pixels[exhibit.changes == change] = colour
    return Image.fromarray(pixels)


def data_uri(picture: Image.Image) -> str:
    """A picture as part of a page."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
