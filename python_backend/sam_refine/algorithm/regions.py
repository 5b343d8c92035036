"""SplitRegions: the coarse map's 8-connected components, all classes in one pass.

An example on a grid of 8 x 8 cells, regions by their number, cells of no region as dots:

    S_d         regions     min_region_area 4
    00011100    00011100    00011100
    00011100    00011100    00011100
    20000000    40000000    .0000000
    20000110    40000220    .0000220
    20000110    40000220    .0000220
    00000000    00000000    00000000
    00022200    00055500    000...00
    11000000    33000000    ..000000
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt

from sam_refine.algorithm.scores import GridScores
from sam_refine.contract import LimitExceededError, RefineOptions
from sam_refine.numerics.arrays import Float32, Indices, Labels, Mask

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
    dropped: int = 0
    """How many components were smaller than `min_region_area`."""

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def largest_first(self) -> Indices:
        """(Q,) the order in which to draw them, so that small ones stay on top of large ones."""
        areas = np.bincount(self.region_map.ravel() + 1, minlength=len(self) + 1)[1:]
        return np.argsort(-areas, kind="stable")

    def mask_grid(self, chosen: Mask) -> Mask:
        """Union (h_d, w_d) of the regions where `chosen` (Q,) is true."""
        mask: Mask = np.append(chosen, False)[self.region_map]
        return mask


def split_regions(
    labels_grid: Labels, scores: GridScores, options: RefineOptions, max_regions: int
) -> Regions:
    """Split every class's cells into regions.

    No region: where tau_c > 0, cells whose best score is < tau_c and classes whose best score is;
    cells of `ignore_label`; components smaller than `min_region_area`.
    Labels are (h_d, w_d) int32. Raises `LimitExceededError` for more than `max_regions` regions.
    """
    threshold = float(np.float32(options.confidence_threshold))  # compared as float32 everywhere
    labelled = (labels_grid >= 0) & (labels_grid < len(scores))
    if options.ignore_label is not None:
        labelled &= labels_grid != options.ignore_label
    own_scores = scores.own(labels_grid * labelled)
    splittable = labelled
    if threshold > 0:  # the reject class; most own scores are the best, or near it
        sure = own_scores >= threshold
        doubtful = labelled & ~sure
        splittable = labelled & (sure | scores.reached(threshold, doubtful, range(len(scores))))
    # Component 0 is cc3d's background; every other one lies within one class.
    component_map = cc3d.connected_components((labels_grid + 1) * splittable, connectivity=8)
    components = _measure(component_map, own_scores)
    classes = labels_grid.ravel()[components.first_cells]

    wanted = components.areas >= options.min_region_area
    wanted[0] = False
    for class_id in np.unique(classes[wanted]).tolist() if threshold > 0 else ():
        own = classes == class_id
        if (components.best_scores[own] < threshold).all():
            wanted &= ~own | scores.reached(threshold, np.ones_like(labelled), [class_id]).any()
    chosen = np.flatnonzero(wanted)
    if len(chosen) > max_regions:
        raise LimitExceededError(
            f"the coarse map has {len(chosen)} regions, at most {max_regions} are accepted; "
            "raise min_region_area or max_regions"
        )
    chosen = chosen[np.lexsort((components.first_cells[chosen], classes[chosen]))]
    region_of_component = np.full(len(classes), NO_REGION, np.int32)
    region_of_component[chosen] = np.arange(len(chosen))
    rows, columns = np.divmod(components.best_cells[chosen], labels_grid.shape[1])
    return Regions(
        classes=classes[chosen],
        boxes_xyxy_grid=components.boxes_xyxy[chosen].astype(np.int32),
        points_xy_grid=np.stack([columns, rows], axis=1).astype(np.int32),
        scores=(components.sums[chosen] / components.areas[chosen]).astype(np.float32),
        region_map=region_of_component[component_map],
        dropped=int(np.count_nonzero(components.areas[1:] < options.min_region_area)),
    )


class _Components(NamedTuple):
    """What is measured of the n components of a map, by component; cells are flat indices."""

    areas: Indices
    first_cells: Indices
    boxes_xyxy: Indices
    """(n, 4) inclusive."""
    sums: npt.NDArray[np.float64]
    """Of own scores."""
    best_scores: Float32
    best_cells: Indices
    """First cell of the best score."""


def _measure(component_map: npt.NDArray[Any], own_scores: Float32) -> _Components:
    """Measure the components of a map (h_d, w_d); component 0 may have no cell.

    Cells are reduced to horizontal runs of one component first: numpy is fast at that, and there
    are few runs left for what it is slow at.
    """
    count, width = int(component_map.max()) + 1, component_map.shape[1]
    is_start = np.ones(component_map.shape, np.bool_)
    np.not_equal(component_map[:, 1:], component_map[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=component_map.size)
    components, own_scores = component_map.ravel()[starts], own_scores.ravel()
    rows, columns = np.divmod(starts, width)

    areas, boxes, sums = np.zeros(count, np.intp), np.empty((count, 4), np.intp), np.zeros(count)
    boxes[:, :2], boxes[:, 2:] = component_map.size, -1
    np.add.at(areas, components, lengths)
    np.minimum.at(boxes[:, 0], components, columns)
    np.minimum.at(boxes[:, 1], components, rows)
    np.maximum.at(boxes[:, 2], components, columns + lengths - 1)
    np.maximum.at(boxes[:, 3], components, rows)
    np.add.at(sums, components, np.add.reduceat(own_scores, starts, dtype=np.float64))
    best_scores = np.full(count, -np.inf, np.float32)
    np.maximum.at(best_scores, components, np.maximum.reduceat(own_scores, starts))
    best_cells = np.flatnonzero(own_scores == best_scores[component_map.ravel()])
    return _Components(
        areas=areas,
        first_cells=_first(starts, components, count),
        boxes_xyxy=boxes,
        sums=sums,
        best_scores=best_scores,
        best_cells=_first(best_cells, component_map.ravel()[best_cells], count),
    )


def _first(cells: Indices, components: npt.NDArray[Any], count: int) -> Indices:
    """The first of `cells` in each of `count` components; 0 where there is none."""
    first = np.zeros(count, np.intp)
    first[components[::-1]] = cells[::-1]  # of repeated indices the last assignment stays
    return first
