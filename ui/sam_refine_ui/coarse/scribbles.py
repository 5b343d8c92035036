"""Colours that were painted with fixed brushes, back to classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_refine_client.arrays import Labels, UInt8

MOST_OFF: Final = 8
"""How far a channel may be from a brush's colour: half-transparent paint is rounded."""
LEAST_ALPHA: Final = 128
"""A pixel that is covered less than by half is unpainted."""
EDGE_PX: Final = 2
"""Where two strokes meet their colours are mixed, up to so far."""


def labels_of_scribbles(
    layers: Sequence[UInt8], brushes: UInt8, size_hw: tuple[int, int]
) -> Labels:
    """Classes (H, W) of painted layers (h, w, 4) RGBA, the later ones on top.

    Class i + 1 was painted in `brushes` (n, 3) row i; what is unpainted is class 0. Where the
    smooth edge of a stroke lies over another stroke the colours are mixed, which may give a third
    brush's: such pixels become the class of the nearest colour among those painted beside them.
    Other colours are class 0.
    """
    labels = np.zeros(size_hw, np.int32)
    for layer in layers:
        found = _resized(_classes(layer, brushes), size_hw)
        labels = np.where(found > 0, found, labels)
    return labels


def _classes(layer: UInt8, brushes: UInt8) -> Labels:
    """Of one layer, at its own size."""
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
    return np.where(labels > 0, labels, exact)  # lines of one pixel, with nothing beside them


def _in_a_square(labels: Labels) -> npt.NDArray[np.bool_]:
    """Where a pixel lies in some 2 x 2 of its own label: a mixed edge is too thin for that."""
    corners = labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1], labels[1:, 1:]
    same = np.logical_and.reduce([corner == corners[0] for corner in corners])
    inside = np.zeros(labels.shape, np.bool_)
    height, width = same.shape
    for row in (0, 1):
        for column in (0, 1):
            inside[row : row + height, column : column + width] |= same
    return inside


def _grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask and every pixel that touches it, at a corner too."""
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
