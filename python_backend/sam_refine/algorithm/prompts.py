"""TransformBoxes, TransformPoints and the mask prompts: regions as SAM wants to be asked.

An example: a region on a grid of 8 x 8 cells, P its best cell. A cell is 128 pixels of SAM's canvas
of 1024 x 1024.

    ........
    ..##....    box    (2, 1, 5, 4)   ->   (256, 128, 640, 512)
    ..#P##..    point  (3, 2)         ->   (384, 256)
    ..####..
    ...##...
    ........
    ........
    ........
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from sam_refine.algorithm.canvas import preprocess_shape
from sam_refine.algorithm.postprocess import low_res_size
from sam_refine.algorithm.regions import Regions
from sam_refine.algorithm.scores import GridScores
from sam_refine.contract import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    MASK_SIDE,
    MODEL_SIDE,
    POINT_POSITIVE,
    MaskChoice,
    MaskPrompt,
    MaskPromptMode,
    RefineOptions,
)
from sam_refine.numerics.arrays import Array, Float32, Indices, take, to_float32
from sam_refine.numerics.resize import ROUNDING, LinearAxis, gather_bilinear, resize_linear

_MODES: Final = {
    MaskPrompt.NONE: MaskPromptMode.NONE,
    MaskPrompt.SAM: MaskPromptMode.SAM,
    MaskPrompt.TRIDENT: MaskPromptMode.TRIDENT,
}
"""What each value of the option `mask_prompt` means to the decoder."""


@dataclass(frozen=True)
class Prompts:
    """N prompts of one image, each one positive point and one box, in the decoder's terms."""

    point_coords: Float32
    """(N, 3, 2) point, box top left, box bottom right, in pixels of the 1024 canvas."""
    point_labels: Float32
    """(N, 3)."""
    mask_prompts: Array
    """(K, 1, 256, 256), where the scores are; the rest is numpy's."""
    mask_index: npt.NDArray[np.int64]
    """(N,) each prompt's mask prompt, in [0, K)."""
    mask_prompt: MaskPrompt
    choice: MaskChoice
    iou_threshold: float
    """tau_iou."""
    low_res_size: tuple[int, int]
    """(h_l, w_l)."""

    def __len__(self) -> int:
        return len(self.mask_index)

    def some(self, which: slice | Indices) -> Prompts:
        """Some of the prompts, with the mask prompts that they name and no others."""
        used, mask_index = np.unique(self.mask_index[which], return_inverse=True)
        return Prompts(
            self.point_coords[which],
            self.point_labels[which],
            take(self.mask_prompts, used, 0),
            mask_index.astype(np.int64),
            self.mask_prompt,
            self.choice,
            self.iou_threshold,
            self.low_res_size,
        )

    def decoder_inputs(self) -> dict[str, npt.NDArray[np.generic]]:
        """Every input of `contract.SAM_MASK_DECODER` but the image embedding, by name."""
        return {
            "point_coords": self.point_coords,
            "point_labels": self.point_labels,
            "mask_prompts": self.mask_prompts,
            "mask_index": self.mask_index,
            "mask_prompt_mode": np.array([_MODES[self.mask_prompt]], np.int64),
            "mask_choice": np.array([self.choice], np.int64),
            "iou_threshold": np.array([self.iou_threshold], np.float32),
            "low_res_size": np.array(self.low_res_size, np.int64),
        }


def transform_prompts(regions: Regions, scores: GridScores, options: RefineOptions) -> Prompts:
    """One prompt per region, in the regions' order, and one mask prompt per class with regions."""
    size_grid = scores.size_grid
    points = transform_points(regions.points_xy_grid[:, None], size_grid)
    corners = transform_points(regions.boxes_xyxy_grid.reshape(-1, 2, 2), size_grid)
    labels = np.array([POINT_POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], np.float32)
    classes, mask_index = np.unique(regions.classes, return_inverse=True)
    if options.mask_prompt is MaskPrompt.NONE:
        classes, mask_index = classes[:0], np.zeros(len(regions), np.intp)
    return Prompts(
        point_coords=np.concatenate([points, corners], axis=1),
        point_labels=np.tile(labels, (len(regions), 1)),
        mask_prompts=mask_prompts(classes, scores, options),
        mask_index=mask_index.astype(np.int64),
        mask_prompt=options.mask_prompt,
        choice=MaskChoice.BEST_OF_THREE if options.multimask_output else MaskChoice.SINGLE,
        iou_threshold=options.iou_threshold,
        low_res_size=low_res_size(scores.image_scores.size_image),
    )


def transform_points(points_xy_grid: npt.NDArray[np.int32], size_grid: tuple[int, ...]) -> Float32:
    """Scale (..., 2) from the working grid to the 1024 canvas; SAM adds its half pixel itself."""
    height, width = size_grid
    height_model, width_model = preprocess_shape(height, width, MODEL_SIDE)
    scale_xy = np.array([width_model / width, height_model / height])
    points_xy_model: Float32 = (points_xy_grid * scale_xy).astype(np.float32)
    return points_xy_model


def mask_prompts(classes: Indices, scores: GridScores, options: RefineOptions) -> Array:
    """Lr of each of K classes, (K, 1, 256, 256); one of zeros where there are no classes.

    Lr_i is L_d[i] at 256, zero padded right and below, times tau_m where > tau_c.
    """
    values = scores.image_scores.values
    height, width = preprocess_shape(*scores.image_scores.size_image, MASK_SIDE)
    # From the scores as they came to L_d, and on to 256: one linear operator per axis.
    vertical, horizontal = (
        _axis(*steps, (size_grid, size)).like(values)
        for steps, size_grid, size in zip(
            scores.steps, scores.size_grid, (height, width), strict=True
        )
    )
    xp = array_namespace(values)
    shape = max(1, len(classes)), 1, MASK_SIDE, MASK_SIDE
    prompts = xp.zeros(shape, dtype=xp.float32, device=device(values))
    for index, class_id in enumerate(classes.tolist()):
        resized = resize_linear(to_float32(values[class_id]), vertical, horizontal)
        resized *= _above(options.confidence_threshold, resized, class_id, scores)
        resized *= options.mask_prompt_scale
        prompts[index, 0, :height, :width] = resized
    return prompts


_axis = lru_cache(maxsize=8)(LinearAxis.of)


def _above(threshold: float, resized: Array, class_id: int, scores: GridScores) -> Array:
    """Where `resized` is > `threshold`, bool. Rounding does not decide: near it, the exact do.

    At a threshold of 0 it does not matter.
    """
    xp = array_namespace(resized)
    above = resized > threshold
    if threshold > 0:
        slack = ROUNDING * xp.max(xp.abs(resized))
        rows, columns = xp.nonzero(xp.abs(resized - threshold) <= slack)
        plane = scores.image_scores.values[class_id : class_id + 1]
        sizes = scores.image_scores.size_image, scores.size_grid, resized.shape
        exact = gather_bilinear(plane, xp.zeros_like(rows), rows, columns, *sizes)
        above[rows, columns] = exact > threshold
    return above
