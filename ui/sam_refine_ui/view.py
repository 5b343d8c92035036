"""A result as the page shows it: pictures, a legend, numbers, a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image

from sam_refine_client import Health, RefineResult, Region
from sam_refine_client.arrays import Labels, Mask, UInt8
from sam_refine_client.files.colours import MAX_COLOURS, class_palette, colour_of
from sam_refine_client.files.pictures import Window, densest, overlay, window_around
from sam_refine_ui.classes import class_name, css_colour

TABLE_HEADINGS: Final = ("class", "box (x, y, x, y)", "score", "predicted IoU", "refined")
MOST_ROWS: Final = 500
"""Limit of the table; the files have all regions."""
FADED: Final = 3
"""By what the photo under the changed pixels is darkened."""
MARGIN_PX: Final = 16
"""What is left around the changed pixels."""


def state(health: Health) -> str:
    """HTML: one sentence that says whether the server can refine, and what is wrong if not."""
    if health.is_healthy:
        kind, text = "ready", "Ready: press Refine."
    elif health.is_live:
        kind, text = "wrong", "Reachable, but not ready: " + "; ".join(health.problems)
    else:
        kind, text = "wrong", "Not reachable: " + "; ".join(health.problems)
    return f"<div role='status' class='{kind}'>{escape(text)}</div>"


@dataclass(frozen=True)
class Shown:
    """What the pictures of a result are made from, as long as it is on the page."""

    photo: UInt8
    """(H, W, 3) RGB."""
    coarse_labels: Labels
    """(H, W)."""
    labels: Labels
    """(H, W)."""

    @classmethod
    def of(cls, photo: UInt8, result: RefineResult) -> Shown:
        """Of a result with both maps."""
        return cls(photo, *maps(result))

    @property
    def changed(self) -> Mask:
        """Which pixels (H, W) have another class than before."""
        changed: Mask = self.coarse_labels != self.labels
        return changed


Pair: TypeAlias = tuple[Image.Image, Image.Image]
"""The coarse and the refined map over the photo."""


def before_and_after(shown: Shown) -> Pair:
    """The whole maps."""
    return overlay(shown.photo, shown.coarse_labels), overlay(shown.photo, shown.labels)


def enlarged(shown: Shown, window: Window | None = None) -> Pair:
    """A part of the maps: by default that in which most pixels changed."""
    window = window or densest(shown.changed)
    coarse, refined = (
        overlay(shown.photo, labels, window=window)
        for labels in (shown.coarse_labels, shown.labels)
    )
    return coarse, refined


def window_at(shown: Shown, x: int, y: int) -> Window:
    """The part to enlarge around a pixel of the picture that `changes` makes."""
    top, left = (side.start for side in _crop(shown.changed))
    return window_around(top + y, left + x, shown.labels.shape)


def changes(shown: Shown) -> Image.Image:
    """The photo (H, W, 3) faded to grey, with the pixels that changed in their new class' colour.

    Changed pixels of a class without a colour are white. It is cropped to what changed, with a
    margin, so that little change can be seen; the whole photo if nothing changed.
    """
    changed = shown.changed
    grey = np.asarray(Image.fromarray(shown.photo).convert("L"))
    picture = np.repeat((grey // FADED)[..., None], 3, axis=-1)
    for class_id in np.unique(shown.labels[changed]).tolist():
        colour = colour_of(class_id, class_palette(MAX_COLOURS))
        picture[changed & (shown.labels == class_id)] = 255 if colour is None else colour
    return Image.fromarray(picture[_crop(changed)])


def _crop(changed: Mask) -> Window:
    """From the first to the last pixel (H, W) that changed, with a margin; all if none did."""
    if not changed.any():
        return slice(0, changed.shape[0]), slice(0, changed.shape[1])
    return _span(changed.any(1)), _span(changed.any(0))


def _span(found: Mask) -> slice:
    """From the first True to past the last one, with a margin, within the array (n,)."""
    places = np.flatnonzero(found)
    return slice(
        max(0, int(places[0]) - MARGIN_PX), min(len(found), int(places[-1]) + 1 + MARGIN_PX)
    )


def legend(result: RefineResult, names: Sequence[str]) -> str:
    """HTML: the classes that are in either map, each with its colour."""
    classes = sorted({label for labels in maps(result) for label in np.unique(labels).tolist()})
    swatches = "".join(swatch(class_id, names) for class_id in classes)
    return f"<div class='legend'>{swatches}</div>"


def maps(result: RefineResult) -> tuple[Labels, Labels]:
    """The coarse and the refined labels (H, W) of a result that has both."""
    assert result.coarse_labels is not None
    assert result.labels is not None
    return result.coarse_labels, result.labels


def class_count(result: RefineResult) -> int:
    """How many classes there are at least: that of a region may be in neither map."""
    classes = [int(labels.max()) for labels in maps(result)]
    classes += [region.class_id for region in result.regions or ()]
    return 1 + max(classes)


def swatch(class_id: int, names: Sequence[str], note: str = "") -> str:
    """HTML of one class: its colour, number and name."""
    name = escape(class_name(class_id, names) + note)
    return (
        f"<span class='entry'><i style='background:{css_colour(class_id)}'></i>"
        f"<span>{name}</span></span>"
    )


def numbers(result: RefineResult, round_trip_s: float) -> str:
    """HTML: how much changed, how many regions SAM refined, how long each part took."""
    assert result.regions is not None
    kept = sum(region.kept for region in result.regions)
    facts = {
        "pixels changed": f"{result.changed_fraction:.1%}",
        "regions refined": f"{kept} of {len(result.regions)}",
        "there and back": _duration(1000 * round_trip_s),
    }
    stages = ", ".join(
        f"{stage.replace('_', ' ')} {_duration(time_ms)}"
        for stage, time_ms in result.timings.items()
    )
    cells = "".join(
        f"<div><b>{value}</b><span>{name}</span></div>" for name, value in facts.items()
    )
    return f"<div class='numbers'>{cells}</div><div class='stages'>{stages}</div>"


def rows(regions: Sequence[Region], names: Sequence[str]) -> list[list[Any]]:
    """One row of `TABLE_HEADINGS` for each region, the first 500."""
    return [
        [
            class_name(region.class_id, names),
            ", ".join(map(str, region.box_xyxy)),
            round(region.score, 3),
            round(region.predicted_iou, 3),
            "yes" if region.kept else "no",
        ]
        for region in regions[:MOST_ROWS]
    ]


def _duration(time_ms: float) -> str:
    return f"{time_ms / 1000:.1f} s" if time_ms >= 1000 else f"{time_ms:.0f} ms"
