"""Label maps as pictures: grey and palette PNGs, and a coarse and a refined map side by side.

Needs numpy and Pillow only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sam_refine_client.arrays import AnyLabels, Mask, UInt8
from sam_refine_client.files.colours import (
    MAX_COLOURS,
    Colour,
    check_palette,
    class_palette,
    colour_of,
)
from sam_refine_client.reading.images import check_rgb

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

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

_PANEL = (832, 832)
"""(width, height) of the room for one map: the image is scaled up or down to fit into it."""
_OVERLAY = (1200, 900)
"""The same where there is one map only."""
_WIDE = 2.0
"""Maps of images wider than this many times their height are stacked."""
_ZOOM = 4
_MARGIN = 24
_FONT_SIZE = 36
_SWATCH = 30
_INK = (32, 33, 36)
_PAPER = (255, 255, 255)
_FRAME = (190, 192, 196)
_LINE = (255, 255, 255)
_LINE_WIDTH = 4
_TINT = 0.5
"""How much of a pixel is the class colour; the rest is the photo."""
_UNCOLOURED = 60
"""Grey of labels without a colour, if there is no photo."""

Titled: TypeAlias = tuple[str, Image.Image]
Window: TypeAlias = tuple[slice, slice]
"""A part of (H, W): its rows and its columns."""


@dataclass(frozen=True)
class _View:
    """One map, and which of its pixels are shown: all, or those that changed."""

    title: str
    labels: AnyLabels
    shown: Mask | None = None


def before_after(
    image: UInt8,
    coarse_labels: AnyLabels,
    refined_labels: AnyLabels,
    class_names: Sequence[str] | None = None,
    palette: UInt8 | None = None,
    ignore_label: int | None = None,
) -> Image.Image:
    """One RGB picture of the coarse and the refined map over the photo in grey, with outlines.

    A third view has the pixels that changed, in the colours of their new classes; below, all three
    are enlarged where most has changed. Where nothing has, there are the two maps only.

    `image` is (H, W, 3) uint8 RGB, H and W at least 1; the labels are (H, W) integers. Class i has
    colour `palette[i]` (by default of `class_palette`, which starts again after 256 classes).
    Negative labels, `ignore_label`, and labels past the end of a given palette stay uncoloured.
    With `class_names` a legend shows the classes that are in either map; a class past the end of
    the names is called by its number. Views of wide images are stacked; small images are scaled
    up, large ones down. Raises `ValueError` for arrays of other shapes or dtypes.
    """
    check_rgb(image)
    _check_fits("coarse_labels", coarse_labels, image)
    _check_fits("refined_labels", refined_labels, image)
    views = _before_and_after(coarse_labels, refined_labels)
    return _picture(image, views, class_names, palette, ignore_label)


def without_photo(coarse_labels: AnyLabels | None, refined_labels: AnyLabels) -> Image.Image:
    """The maps in plain colours, otherwise as in `before_after`; classes are called by number.

    Without a coarse map, only the refined one.
    """
    if coarse_labels is None:
        _check_labels("refined_labels", refined_labels)
        return _picture(None, [_View("Refined", refined_labels)], ())
    return _picture(None, _before_and_after(coarse_labels, refined_labels), ())


def overlay(
    image: UInt8,
    labels: AnyLabels,
    palette: UInt8 | None = None,
    window: Window = (slice(None), slice(None)),
) -> Image.Image:
    """One map over the photo in grey, with outlines, drawn as in `before_after` but larger.

    Where there is a `window`, that part of (H, W) only, enlarged to the size of the whole.
    """
    check_rgb(image)
    _check_fits("labels", labels, image)
    view = _View("", labels)
    size = _fitted(labels.shape, _OVERLAY)
    return _enlarged(image, view, _colours([view], palette), size, window)


def _before_and_after(coarse_labels: AnyLabels, refined_labels: AnyLabels) -> list[_View]:
    changed = coarse_labels != refined_labels
    share = f"{changed.mean():.1%}"
    if not changed.any():
        return [_View("Coarse", coarse_labels), _View(f"Refined, {share} changed", refined_labels)]
    return [
        _View("Coarse", coarse_labels),
        _View("Refined", refined_labels),
        _View(f"Changed, {share}", refined_labels, changed),
    ]


def _picture(
    image: UInt8 | None,
    views: Sequence[_View],
    class_names: Sequence[str] | None,
    palette: UInt8 | None = None,
    ignore_label: int | None = None,
) -> Image.Image:
    """Views with their titles and, if there are names, a legend of the classes in any of them."""
    colours = _colours(views, palette, ignore_label)
    legend = []
    if class_names is not None:
        for label, colour in colours.items():
            if colour is not None:
                name = class_names[label] if label < len(class_names) else str(label)
                legend.append((name, colour))
    size = _fitted(views[0].labels.shape, _PANEL)
    wholes = [(view.title, _panel(image, view, colours, size)) for view in views]
    grid = [wholes]
    changed = views[-1].shown
    if changed is not None:
        window = densest(changed)
        grid.append([("", _enlarged(image, view, colours, size, window)) for view in views])
        for _, panel in wholes:
            _frame(panel, window, changed.shape)
    if size[0] > _WIDE * size[1]:
        grid = [list(row) for row in zip(*grid, strict=True)]
    return _page(grid, legend)


def _colours(
    views: Sequence[_View], palette: UInt8 | None, ignore_label: int | None = None
) -> dict[int, Colour | None]:
    """The colour of each label in any of the views, in order; None if it stays uncoloured."""
    if palette is not None:
        check_palette(palette)
    present = sorted({label for view in views for label in np.unique(view.labels).tolist()})
    return {
        label: None if label == ignore_label else colour_of(label, palette) for label in present
    }


def _fitted(shape: tuple[int, ...], room: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a map (H, W), as large as the room allows."""
    height, width = shape
    scale = min(room[0] / width, room[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _panel(
    image: UInt8 | None,
    view: _View,
    colours: Mapping[int, Colour | None],
    size: tuple[int, int],
) -> Image.Image:
    """The photo in grey, or plain without one, tinted by class; a line where two labels meet."""
    height, width = view.labels.shape
    rows = (np.arange(size[1]) * height // size[1])[:, None]
    columns = np.arange(size[0]) * width // size[0]
    labels = view.labels[rows, columns]

    if image is None:
        pixels, tint = np.full((*labels.shape, 3), _UNCOLOURED, np.float32), 1.0
    else:
        photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
        pixels = np.asarray(photo.convert("L").convert("RGB")).astype(np.float32)
        tint = _TINT if view.shown is None else 1.0
    shown = True if view.shown is None else view.shown[rows, columns]
    for label, colour in colours.items():
        if colour is not None:
            where = (labels == label) & shown
            pixels[where] = (1 - tint) * pixels[where] + tint * np.array(colour, np.float32)
    if view.shown is None:
        pixels[_outlines(labels)] = _LINE
    return Image.fromarray(pixels.round().astype(np.uint8))


def _outlines(labels: AnyLabels) -> Mask:
    """Both cells (h, w) wherever two neighbours differ."""
    line = np.zeros(labels.shape, np.bool_)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    line[:, :-1] |= across
    line[:, 1:] |= across
    line[:-1] |= down
    line[1:] |= down
    return line


# --- Zoom ------------------------------------------------------------------------------------


def window_around(y: int, x: int, shape: tuple[int, ...]) -> Window:
    """The part of (H, W) around a pixel, a quarter as high and wide; moved to lie within it."""
    sides = []
    for centre, whole in zip((y, x), shape, strict=True):
        side = -(-whole // _ZOOM)
        start = min(max(0, centre - side // 2), whole - side)
        sides.append(slice(start, start + side))
    return sides[0], sides[1]


def densest(changed: Mask) -> Window:
    """The part of (H, W), a quarter as high and wide, with the most changes; the first if equal."""
    high, wide = (-(-side // _ZOOM) for side in changed.shape)
    sums = np.pad(changed, ((1, 0), (1, 0))).astype(np.int32).cumsum(axis=0).cumsum(axis=1)
    counts = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = np.unravel_index(counts.argmax(), counts.shape)
    return slice(int(top), int(top) + high), slice(int(left), int(left) + wide)


def _enlarged(
    image: UInt8 | None,
    view: _View,
    colours: Mapping[int, Colour | None],
    size: tuple[int, int],
    window: Window,
) -> Image.Image:
    """The part of a view in the window, as large as the whole of it."""
    part = None if image is None else image[window]
    shown = None if view.shown is None else view.shown[window]
    return _panel(part, _View("", view.labels[window], shown), colours, size)


def _frame(panel: Image.Image, window: Window, shape: tuple[int, ...]) -> None:
    """Draw where the window of a map (H, W) is in its panel."""
    (top, bottom), (left, right) = (
        (side.start * length // whole, side.stop * length // whole - 1)
        for side, whole, length in zip(window, shape, reversed(panel.size), strict=True)
    )
    ImageDraw.Draw(panel).rectangle((left, top, right, bottom), outline=_LINE, width=_LINE_WIDTH)


# --- The page --------------------------------------------------------------------------------


def _page(
    grid: Sequence[Sequence[Titled]],
    legend: Sequence[tuple[str, Colour]],
) -> Image.Image:
    """Rows of titled panels of one size; the legend below."""
    font = ImageFont.load_default(size=_FONT_SIZE)
    line_height = round(1.4 * _FONT_SIZE)
    panel_width, panel_height = grid[0][0][1].size
    titles = [title for row in grid for title, _ in row]
    cell_width = max(panel_width, *(round(font.getlength(title)) for title in titles))
    width = len(grid[0]) * (cell_width + _MARGIN) + _MARGIN

    heads = [line_height if any(title for title, _ in row) else 0 for row in grid]
    entries, legend_height = _flow(legend, font, width - 2 * _MARGIN, line_height)
    top = sum(heads) + len(grid) * (panel_height + _MARGIN) + _MARGIN
    page = Image.new("RGB", (width, top + (legend_height + _MARGIN if legend else 0)), _PAPER)
    draw = ImageDraw.Draw(page)
    y = _MARGIN
    for row, head in zip(grid, heads, strict=True):
        for column, (title, panel) in enumerate(row):
            x = _MARGIN + column * (cell_width + _MARGIN)
            draw.text((x, y + line_height // 2), title, _INK, font, anchor="lm")
            page.paste(panel, (x, y + head))
        y += head + panel_height + _MARGIN
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
