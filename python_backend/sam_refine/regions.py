"""SplitRegions: the coarse map's 8-connected components, all classes in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine.resize import Float32
from sam_refine.scores import Labels

Components = npt.NDArray[np.integer[Any]]

NO_REGION = -1


@dataclass(frozen=True)
class Regions:
    """Q regions in the order of class id, then raster order of the first cell. Q may be 0.

    R is kept as one map: region masks are never made one by one.
    """

    classes: npt.NDArray[np.int32]
    """(Q,) class ids i."""
    boxes_xyxy_grid: npt.NDArray[np.int32]
    """B: (Q, 4) x_min, y_min, x_max, y_max, inclusive cells."""
    points_xy_grid: npt.NDArray[np.int32]
    """P: (Q, 2) the cell of the highest L_d[i], first in raster order on ties."""
    scores: Float32
    """Q_b: (Q,) mean of L_d[i] over the region."""
    region_map: npt.NDArray[np.int32]
    """R: (h_d, w_d) index of each cell's region, or NO_REGION."""

    def __len__(self) -> int:
        return len(self.classes)

    def mask_grid(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Union (h_d, w_d) of the regions where `chosen` (Q,) is true."""
        mask: npt.NDArray[np.bool_] = np.append(chosen, False)[self.region_map]
        return mask


def split_regions(
    labels_grid: Labels, scores_grid: Float32, options: RefineOptions, max_regions: int
) -> Regions:
    """Split every class's cells into regions.

    No region: cells whose best score is < tau_c (where tau_c > 0), classes whose best score is
    < tau_c, cells of `ignore_label`, components smaller than `min_region_area`.
    Labels are (h_d, w_d) int32, scores (C, h_d, w_d) float32. Raises `InvalidRequestError` for more
    than `max_regions` regions.
    """
    splittable = _splittable(labels_grid, scores_grid, options)
    # Component 0 is cc3d's background; every other one lies within one class.
    components = cc3d.connected_components(
        np.where(splittable, labels_grid + 1, 0).astype(np.int32), connectivity=8
    )
    areas = np.bincount(components.ravel())
    first_cells = _first_cells(components, np.ones_like(splittable))
    component_classes = labels_grid.ravel()[first_cells]

    kept = np.flatnonzero(areas >= options.min_region_area)
    kept = kept[kept > 0]
    if len(kept) > max_regions:
        raise InvalidRequestError(
            f"the coarse map has {len(kept)} regions, at most {max_regions} are accepted; "
            "raise min_region_area or max_regions"
        )
    order = kept[np.lexsort((first_cells[kept], component_classes[kept]))]

    own_scores = np.take_along_axis(
        scores_grid, np.where(splittable, labels_grid, 0)[None], axis=0
    )[0]
    sums = np.bincount(components.ravel(), weights=own_scores.ravel())
    points = _first_cells(components, own_scores == _maxima(components, own_scores)[components])
    width = labels_grid.shape[1]
    region_of_component = np.full(len(areas), NO_REGION, np.int32)
    region_of_component[order] = np.arange(len(order))
    return Regions(
        classes=component_classes[order].astype(np.int32),
        boxes_xyxy_grid=_boxes(components)[order],
        points_xy_grid=np.stack([points[order] % width, points[order] // width], 1).astype(
            np.int32
        ),
        scores=(sums[order] / areas[order]).astype(np.float32),
        region_map=region_of_component[components],
    )


def _splittable(
    labels_grid: Labels, scores_grid: Float32, options: RefineOptions
) -> npt.NDArray[np.bool_]:
    """Cells (h_d, w_d) that belong to some region, before `min_region_area`."""
    classes = len(scores_grid)
    threshold = options.confidence_threshold
    class_has_regions = scores_grid.reshape(classes, -1).max(axis=1) >= threshold
    labelled = (labels_grid >= 0) & (labels_grid < classes)
    if options.ignore_label is not None:
        labelled &= labels_grid != options.ignore_label
    splittable: npt.NDArray[np.bool_] = (
        labelled & class_has_regions[np.where(labelled, labels_grid, 0)]
    )
    if threshold > 0:  # the reject class
        splittable &= scores_grid.max(axis=0) >= threshold
    return splittable


def _first_cells(components: Components, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Flat index of each component's first cell in raster order where `among` is true."""
    cells = np.flatnonzero(among)[::-1]
    first = np.zeros(int(components.max(initial=0)) + 1, np.intp)
    first[components.ravel()[cells]] = cells  # of repeated indices the last assignment stays
    return first


def _maxima(components: Components, own_scores: Float32) -> Float32:
    """Highest own score of each component."""
    maxima = np.full(int(components.max(initial=0)) + 1, -np.inf, np.float32)
    np.maximum.at(maxima, components.ravel(), own_scores.ravel())
    return maxima


def _boxes(components: Components) -> npt.NDArray[np.int32]:
    """Inclusive x_min, y_min, x_max, y_max of each component; row 0 is the background's."""
    statistics = cc3d.statistics(components, no_slice_conversion=True)
    y_min, y_max, x_min, x_max = statistics["bounding_boxes"].astype(np.int32).T
    return np.stack([x_min, y_min, x_max, y_max], axis=1)
