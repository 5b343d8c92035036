"""Strokes that were painted with brushes of fixed colours, turned back into classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_refine_client.arrays import Labels, UInt8

MOST_OFF: Final = 8
"""How far a channel may be from a brush's colour, because half-transparent paint is rounded."""
LEAST_ALPHA: Final = 128
"""A pixel counts as unpainted if less than half of it is covered."""
EDGE_PX: Final = 2
"""How far from the edge of a stroke its colour is mixed with that of a stroke below."""


def labels_of_scribbles(
    layers: Sequence[UInt8], brushes: UInt8, size_hw: tuple[int, int]
) -> Labels:
    """Classes (H, W) of painted layers (h, w, 4) RGBA, the later ones on top.

    Class i + 1 was painted in the colour `brushes[i]` of (n, 3); unpainted pixels are class 0.
    Where the smooth edge of a stroke covers another stroke, colours are mixed, and the mixture may
    look like a third brush: such pixels get the nearest colour among those painted next to them.
    Other colours are class 0.
    """
    labels = np.zeros(size_hw, np.int32)
    for layer in layers:
        found = _resized(_classes(layer, brushes), size_hw)
        labels = np.where(found > 0, found, labels)
    return labels


def _classes(layer: UInt8, brushes: UInt8) -> Labels:
    """Classes of one layer, at its own size."""
    painted = layer[..., 3] >= LEAST_ALPHA
    off = np.abs(layer[..., None, :3].astype(np.int16) - brushes.astype(np.int16)).max(-1)
    exact = np.where(painted & (off.min(-1) <= MOST_OFF), off.argmin(-1) + 1, 0).astype(np.int32)
    labels = np.where(_in_a_square(exact), exact, 0)
    for _ in range(EDGE_PX):
        mixed = painted & (labels == 0)
        if not mixed.any():
            break
        near = np.stack([_grown(labels == i + 1)[mixed] for i in range(len(brushes))], -1)
        distance = np.where(near, off[mixed], np.iinfo(np.int16).max)
        labels[mixed] = np.where(near.any(-1), distance.argmin(-1) + 1, 0)
    return np.where(labels > 0, labels, exact)  # lines of one pixel, with nothing next to them


def _in_a_square(labels: Labels) -> npt.NDArray[np.bool_]:
    """Whether each pixel is in some 2 x 2 of its own label, for which a mixed edge is too thin."""
    corners = labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1], labels[1:, 1:]
    same = np.logical_and.reduce([corner == corners[0] for corner in corners])
    inside = np.zeros(labels.shape, np.bool_)
    height, width = same.shape
    for row in (0, 1):
        for column in (0, 1):
            inside[row : row + height, column : column + width] |= same
    return inside


def _grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask and every pixel that touches it, also at a corner."""
    for axis in (0, 1):
        padded = np.pad(mask, [(1, 1) if i == axis else (0, 0) for i in (0, 1)])
        size = mask.shape[axis]
        mask = (
            padded.take(range(size), axis)
            | padded.take(range(1, size + 1), axis)
            | padded.take(range(2, size + 2), axis)
        )
    return mask


def _resized(labels: Labels, size_hw: tuple[int, int]) -> Labels:
    if labels.shape == size_hw:
        return labels
    picture = Image.fromarray(labels.astype(np.uint8))
    picture = picture.resize(size_hw[::-1], Image.Resampling.NEAREST)
    return np.asarray(picture).astype(np.int32)
