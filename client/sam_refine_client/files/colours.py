"""Colours of classes: the same everywhere, in files, pictures, reports and on the page.

Needs numpy only.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sam_refine_client.arrays import UInt8

Colour: TypeAlias = tuple[int, int, int]

MAX_COLOURS = 256
"""What the palette of a PNG can hold."""

_FIRST_COLOURS = (
    (110, 115, 125),
    (67, 122, 216),
    (245, 190, 50),
    (230, 85, 80),
    (60, 180, 95),
    (150, 85, 200),
    (65, 200, 225),
    (240, 135, 60),
    (225, 90, 175),
    (165, 205, 75),
    (130, 95, 70),
    (40, 140, 140),
    (250, 185, 205),
)
"""Grey, since class 0 usually is the background, and a dozen hues; most maps need no more."""


def class_palette(count: int) -> UInt8:
    """Distinct colours of `count` classes, (count, 3) uint8 RGB; none is near black.

    Each class has the same colour whatever the count. The first 13 are chosen by eye; each later
    one is as far as possible from all before it. Raises `ValueError` for a count outside [0, 256].
    """
    if not 0 <= count <= MAX_COLOURS:
        raise ValueError(f"count must be in [0, {MAX_COLOURS}], got {count}")
    return _all_colours()[:count].copy()


@cache
def _all_colours() -> UInt8:
    levels = np.arange(15, 256, 16)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    spread = candidates.max(1) - candidates.min(1)
    candidates = candidates[(candidates.max(1) >= 111) & (spread >= 32)]  # not dark, not grey
    colours = np.array(_FIRST_COLOURS)
    places = _oklab(candidates)
    distances = np.full(len(candidates), np.inf)
    for place in _oklab(colours):
        np.minimum(distances, ((places - place) ** 2).sum(1), out=distances)
    while len(colours) < MAX_COLOURS:
        farthest = distances.argmax()
        colours = np.concatenate([colours, candidates[farthest : farthest + 1]])
        np.minimum(distances, ((places - places[farthest]) ** 2).sum(1), out=distances)
    return colours.astype(np.uint8)


def _oklab(colours: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """(n, 3) sRGB to OKLab (Ottosson 2020), where distances are close to what the eye sees."""
    srgb = colours / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    cones = np.cbrt(linear @ np.array(to_cones).T)
    lab: npt.NDArray[np.float64] = cones @ np.array(to_lab).T
    return lab


def colour_of(label: int, palette: UInt8 | None) -> Colour | None:
    """The colour of a label, None if it stays uncoloured."""
    if palette is None:
        palette, label = _all_colours(), label % MAX_COLOURS if label >= 0 else label
    if not 0 <= label < len(palette):
        return None
    red, green, blue = palette[label].tolist()
    return red, green, blue


def check_palette(palette: UInt8) -> UInt8:
    """Return the palette; raise `ValueError` unless it is (n, 3) uint8."""
    if not isinstance(palette, np.ndarray):
        raise ValueError(f"palette must be (n, 3) uint8, got {type(palette).__name__}")
    if palette.ndim != 2 or palette.shape[1] != 3 or palette.dtype != np.uint8:
        raise ValueError(f"palette must be (n, 3) uint8, got {palette.shape} {palette.dtype}")
    return palette
