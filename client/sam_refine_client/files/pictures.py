"""Label maps as pictures: grey and palette PNGs, and a coarse and a refined map side by side.

Needs numpy and Pillow only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sam_refine_client.arrays import AnyLabels, UInt8
from sam_refine_client.images import check_rgb

Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

MAX_COLOURS = 256
"""What the palette of a PNG can hold."""

# --- Colours ---------------------------------------------------------------------------------

_FIRST_COLOURS = (
    (230, 85, 80),
    (67, 122, 216),
    (60, 180, 95),
    (245, 190, 50),
    (150, 85, 200),
    (65, 200, 225),
    (240, 135, 60),
    (225, 90, 175),
    (165, 205, 75),
    (130, 95, 70),
    (40, 140, 140),
    (250, 185, 205),
)
"""A dozen hues chosen by eye; most maps need no more."""


def class_palette(count: int) -> UInt8:
    """Distinct colours of `count` classes, (count, 3) uint8 RGB; none is near black.

    Each class has the same colour whatever the count. The first dozen are chosen by eye; each later
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


# --- Label maps as pictures ------------------------------------------------------------------


def fits_palette(labels: AnyLabels) -> bool:
    """Whether each of the labels (H, W) can be an index into a PNG's palette."""
    _check_labels("labels", labels)
    return int(labels.min()) >= 0 and int(labels.max()) < MAX_COLOURS


def grey_picture(labels: AnyLabels) -> Image.Image:
    """Labels (H, W) as a grey picture with these pixel values: 8 bits, or 16 if one is above 255.

    Raises `ValueError` for anything but a label map, and for labels outside [0, 65535].
    """
    _check_labels("labels", labels)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 65535:
        raise ValueError(f"labels must be in [0, 65535] for a PNG, got {low if low < 0 else high}")
    return Image.fromarray(labels.astype(np.uint8 if high < 256 else np.uint16))


def palette_picture(
    labels: AnyLabels, palette: UInt8 | None = None, ignore_label: int | None = None
) -> Image.Image:
    """Labels (H, W) as a picture of indices into `palette` (n, 3), by default `class_palette`.

    `ignore_label` and labels past the palette's end are black. Raises `ValueError` for anything but
    a label map, and for labels outside [0, 255].
    """
    if not fits_palette(labels):
        low, high = int(labels.min()), int(labels.max())
        got = low if low < 0 else high
        raise ValueError(f"labels must be in [0, 255] for a PNG with a palette, got {got}")
    colours = class_palette(MAX_COLOURS) if palette is None else check_palette(palette)
    table = np.zeros((MAX_COLOURS, 3), np.uint8)
    table[: len(colours)] = colours[:MAX_COLOURS]
    if ignore_label is not None and 0 <= ignore_label < MAX_COLOURS:
        table[ignore_label] = 0
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(table.tobytes())
    return picture


# --- Before and after ------------------------------------------------------------------------

_PANEL = (1200, 900)
"""(width, height) of the room for one map: the image is scaled up or down to fit into it."""
_WIDE = 2.0
"""Maps of images wider than this many times their height are stacked."""
_MARGIN = 24
_FONT_SIZE = 36
_SWATCH = 30
_INK = (32, 33, 36)
_PAPER = (255, 255, 255)
_FRAME = (190, 192, 196)
_LINE = (255, 255, 255)
_TINT = 0.5
"""How much of a pixel is the class colour; the rest is the photo."""
_UNCOLOURED = 60
"""Grey of labels without a colour, if there is no photo."""


def before_after(
    image: UInt8,
    coarse_labels: AnyLabels,
    refined_labels: AnyLabels,
    class_names: Sequence[str] | None = None,
    palette: UInt8 | None = None,
    ignore_label: int | None = None,
) -> Image.Image:
    """One RGB picture of the coarse and the refined map over the photo in grey, with outlines.

    `image` is (H, W, 3) uint8 RGB, H and W at least 1; the labels are (H, W) integers. Class i has
    colour `palette[i]` (by default of `class_palette`, which starts again after 256 classes).
    Negative labels, `ignore_label`, and labels past the end of a given palette stay uncoloured.
    With `class_names` a legend shows the classes that are in either map; a class past the end of
    the names is called by its number. Wide images are stacked, others are side by side; small ones
    are scaled up, large ones down. Raises `ValueError` for arrays of other shapes or dtypes.
    """
    check_rgb(image)
    _check_fits("coarse_labels", coarse_labels, image)
    _check_fits("refined_labels", refined_labels, image)
    maps = _before_and_after(coarse_labels, refined_labels)
    return _titled(image, maps, class_names, palette, ignore_label)


def without_photo(coarse_labels: AnyLabels | None, refined_labels: AnyLabels) -> Image.Image:
    """The maps in plain colours, otherwise as in `before_after`; classes are called by number.

    Without a coarse map, only the refined one.
    """
    if coarse_labels is None:
        _check_labels("refined_labels", refined_labels)
        return _titled(None, [("Refined", refined_labels)], ())
    return _titled(None, _before_and_after(coarse_labels, refined_labels), ())


def _before_and_after(
    coarse_labels: AnyLabels, refined_labels: AnyLabels
) -> list[tuple[str, AnyLabels]]:
    changed = np.count_nonzero(coarse_labels != refined_labels) / coarse_labels.size
    refined = f"Refined, {changed:.1%} of the pixels changed"
    return [("Coarse", coarse_labels), (refined, refined_labels)]


def _titled(
    image: UInt8 | None,
    maps: Sequence[tuple[str, AnyLabels]],
    class_names: Sequence[str] | None,
    palette: UInt8 | None = None,
    ignore_label: int | None = None,
) -> Image.Image:
    """Maps with their titles and, if there are names, a legend of the classes in any of them."""
    if palette is not None:
        check_palette(palette)
    present = sorted({label for _, labels in maps for label in np.unique(labels).tolist()})
    colours = {
        label: None if label == ignore_label else _colour(label, palette) for label in present
    }
    legend = []
    if class_names is not None:
        for label, colour in colours.items():
            if colour is not None:
                name = class_names[label] if label < len(class_names) else str(label)
                legend.append((name, colour))
    return _page([(title, _panel(image, labels, colours)) for title, labels in maps], legend)


def overlay(image: UInt8, labels: AnyLabels, palette: UInt8 | None = None) -> Image.Image:
    """One map over the photo in grey, with outlines, drawn and scaled as in `before_after`."""
    check_rgb(image)
    _check_fits("labels", labels, image)
    if palette is not None:
        check_palette(palette)
    colours = {label: _colour(label, palette) for label in np.unique(labels).tolist()}
    return _panel(image, labels, colours)


def _colour(label: int, palette: UInt8 | None) -> Colour | None:
    """The colour of a label, None if it stays uncoloured."""
    if palette is None:
        palette, label = _all_colours(), label % MAX_COLOURS if label >= 0 else label
    if not 0 <= label < len(palette):
        return None
    red, green, blue = palette[label].tolist()
    return red, green, blue


def _panel(
    image: UInt8 | None, labels: AnyLabels, colours: Mapping[int, Colour | None]
) -> Image.Image:
    """The photo in grey, or plain without one, tinted by class; a line where two labels meet."""
    height, width = labels.shape
    scale = min(_PANEL[0] / width, _PANEL[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rows = (np.arange(size[1]) * height // size[1])[:, None]
    columns = np.arange(size[0]) * width // size[0]
    labels = labels[rows, columns]

    if image is None:
        pixels, tint = np.full((*labels.shape, 3), _UNCOLOURED, np.float32), 1.0
    else:
        photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
        pixels = np.asarray(photo.convert("L").convert("RGB")).astype(np.float32)
        tint = _TINT
    for label, colour in colours.items():
        if colour is not None:
            where = labels == label
            pixels[where] = (1 - tint) * pixels[where] + tint * np.array(colour, np.float32)
    line = np.zeros(labels.shape, np.bool_)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    line[:, :-1] |= across
    line[:, 1:] |= across
    line[:-1] |= down
    line[1:] |= down
    pixels[line] = _LINE
    return Image.fromarray(pixels.round().astype(np.uint8))


# --- The page --------------------------------------------------------------------------------


def _page(
    panels: Sequence[tuple[str, Image.Image]],
    legend: Sequence[tuple[str, Colour]],
) -> Image.Image:
    """Titled panels, side by side or, if they are wide, stacked; the legend below."""
    font = ImageFont.load_default(size=_FONT_SIZE)
    line_height = round(1.4 * _FONT_SIZE)
    panel_width, panel_height = panels[0][1].size
    cell_width = max(panel_width, *(round(font.getlength(title)) for title, _ in panels))
    cell_height = line_height + panel_height
    stacked = panel_width > _WIDE * panel_height
    columns, rows = (1, len(panels)) if stacked else (len(panels), 1)
    width = columns * (cell_width + _MARGIN) + _MARGIN

    entries, legend_height = _flow(legend, font, width - 2 * _MARGIN, line_height)
    top = rows * (cell_height + _MARGIN) + _MARGIN
    page = Image.new("RGB", (width, top + (legend_height + _MARGIN if legend else 0)), _PAPER)
    draw = ImageDraw.Draw(page)
    for index, (title, panel) in enumerate(panels):
        x = _MARGIN + index % columns * (cell_width + _MARGIN)
        y = _MARGIN + index // columns * (cell_height + _MARGIN)
        draw.text((x, y + line_height // 2), title, _INK, font, anchor="lm")
        page.paste(panel, (x, y + line_height))
    for x, y, name, colour in entries:
        x, y = x + _MARGIN, y + top + line_height // 2
        draw.rectangle((x, y - _SWATCH // 2, x + _SWATCH, y + _SWATCH // 2), colour, _FRAME)
        draw.text((x + _SWATCH + _SWATCH // 2, y), name, _INK, font, anchor="lm")
    return page


def _flow(
    legend: Sequence[tuple[str, Colour]], font: Font, width: int, line_height: int
) -> tuple[list[tuple[int, int, str, Colour]], int]:
    """Legend entries as (x, y, name, colour), row by row within `width`, and their height.

    A name that is too long for a whole row is cut.
    """
    entries, x, y = [], 0, 0
    for name, colour in legend:
        name = _cut(name, font, width - _SWATCH * 3 // 2)
        entry_width = _SWATCH * 3 // 2 + round(font.getlength(name))
        if x > 0 and x + entry_width > width:
            x, y = 0, y + line_height
        entries.append((x, y, name, colour))
        x += entry_width + _MARGIN
    return entries, y + line_height


def _cut(text: str, font: Font, width: int) -> str:
    """The text on one line; an ellipsis replaces what does not fit into `width`."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


# --- Checks ----------------------------------------------------------------------------------


def _check_fits(field: str, labels: AnyLabels, image: UInt8) -> None:
    _check_labels(field, labels)
    if labels.shape != image.shape[:2]:
        raise ValueError(f"{field} must be {image.shape[:2]} like the image, got {labels.shape}")


def _check_labels(field: str, labels: AnyLabels) -> None:
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or labels.size == 0:
        raise ValueError(
            f"{field} must be (H, W) integers, H and W at least 1, "
            f"got {labels.shape} {labels.dtype}"
        )


def check_palette(palette: UInt8) -> UInt8:
    """Return the palette; raise `ValueError` unless it is (n, 3) uint8."""
    if not isinstance(palette, np.ndarray):
        raise ValueError(f"palette must be (n, 3) uint8, got {type(palette).__name__}")
    if palette.ndim != 2 or palette.shape[1] != 3 or palette.dtype != np.uint8:
        raise ValueError(f"palette must be (n, 3) uint8, got {palette.shape} {palette.dtype}")
    return palette
