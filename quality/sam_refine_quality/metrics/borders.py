"""Pixels near the border between labels."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask: TypeAlias = npt.NDArray[np.bool_]
AnyLabels: TypeAlias = npt.NDArray[np.integer[Any]]
"""(H, W)."""


def border_pixels(labels: AnyLabels) -> Mask:
    """(H, W) the pixels one of whose four neighbours has another label."""
    border = np.zeros(labels.shape, np.bool_)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border


def near_border(labels: AnyLabels, distance_px: float) -> Mask:
    """(H, W) the pixels at most this far, by Euclid, from one of `border_pixels`.

    None, where the map has one label only.
    """
    border = border_pixels(labels)
    if not border.any():
        return border
    near: Mask = ndimage.distance_transform_edt(~border) <= distance_px
    return near


def boundary(labels: AnyLabels, distance_px: int) -> Mask:
    """(H, W) the pixels at most this far, along rows, columns or diagonals, from another label.

    Beyond the frame is another label, too. For the mask of each label these are the pixels that
    Boundary IoU (Cheng et al. 2021) looks at: the mask without its erosion, `distance_px` times by
    3 x 3, as in the authors' code.
    """
    size, outside = 2 * distance_px + 1, int(labels.max()) + 1
    labels = labels.astype(np.int64)
    window = {"size": size, "mode": "constant", "cval": outside}
    is_near: Mask = ndimage.maximum_filter(labels, **window) != labels
    is_near |= ndimage.minimum_filter(labels, **window) != labels
    return is_near


def boundary_distance_px(size_hw: tuple[int, int], share: float) -> int:
    """A share of the image's diagonal in whole pixels, at least one."""
    return max(1, round(share * float(np.hypot(*size_hw))))
