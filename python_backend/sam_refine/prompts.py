"""TransformBoxes, TransformPoints and the mask prompts: regions as SAM wants to be asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_refine.contract import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    MASK_SIDE,
    MODEL_SIDE,
    POINT_POSITIVE,
    MaskPrompt,
    RefineOptions,
)
from sam_refine.preprocess import preprocess_shape
from sam_refine.regions import Regions
from sam_refine.resize import Float32, resize_bilinear


@dataclass(frozen=True)
class Prompts:
    """N prompts of one image, each one positive point and one box, in the decoder's terms."""

    point_coords: Float32
    """(N, 3, 2) point, box top left, box bottom right, in pixels of the 1024 canvas."""
    point_labels: Float32
    """(N, 3)."""
    mask_prompts: Float32
    """(K, 1, 256, 256)."""
    mask_index: npt.NDArray[np.int64]
    """(N,) each prompt's mask prompt, in [0, K)."""
    mask_prompt: MaskPrompt
    multimask_output: bool

    def __len__(self) -> int:
        return len(self.mask_index)

    def batch(self, start: int, stop: int) -> Prompts:
        """Prompts [start, stop) with the mask prompts that they name, no others."""
        used, mask_index = np.unique(self.mask_index[start:stop], return_inverse=True)
        return Prompts(
            self.point_coords[start:stop],
            self.point_labels[start:stop],
            self.mask_prompts[used],
            mask_index.astype(np.int64),
            self.mask_prompt,
            self.multimask_output,
        )

    def decoder_inputs(self) -> dict[str, npt.NDArray[np.generic]]:
        """Every input of `contract.SAM_MASK_DECODER` but the image embedding, by name."""
        return {
            "point_coords": self.point_coords,
            "point_labels": self.point_labels,
            "mask_prompts": self.mask_prompts,
            "mask_index": self.mask_index,
            "mask_prompt_mode": np.array([self.mask_prompt.mode], np.int64),
            "multimask_output": np.array([self.multimask_output]),
        }


def transform_prompts(
    regions: Regions,
    scores_grid: Float32,
    size_image: tuple[int, int],
    options: RefineOptions,
) -> Prompts:
    """One prompt per region, in the regions' order, and one mask prompt per class with regions."""
    size_grid = scores_grid.shape[1:]
    points = transform_points(regions.points_xy_grid[:, None], size_grid)
    corners = transform_points(regions.boxes_xyxy_grid.reshape(-1, 2, 2), size_grid)
    labels = np.array([POINT_POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], np.float32)
    classes, mask_index = np.unique(regions.classes, return_inverse=True)
    if options.mask_prompt is MaskPrompt.NONE:
        mask_prompts = np.zeros((1, 1, MASK_SIDE, MASK_SIDE), np.float32)
        mask_index = np.zeros(len(regions), np.intp)
    else:
        mask_prompts = np.stack(
            [mask_prompt(scores_grid[i], size_image, options)[None] for i in classes]
        )
    return Prompts(
        point_coords=np.concatenate([points, corners], axis=1),
        point_labels=np.tile(labels, (len(regions), 1)),
        mask_prompts=mask_prompts,
        mask_index=mask_index.astype(np.int64),
        mask_prompt=options.mask_prompt,
        multimask_output=options.multimask_output,
    )


def transform_points(points_xy_grid: npt.NDArray[np.int32], size_grid: tuple[int, ...]) -> Float32:
    """Scale (..., 2) from the working grid to the 1024 canvas; SAM adds its half pixel itself."""
    height, width = size_grid
    height_model, width_model = preprocess_shape(height, width, MODEL_SIDE)
    scale_xy = np.array([width_model / width, height_model / height])
    points_xy_model: Float32 = (points_xy_grid * scale_xy).astype(np.float32)
    return points_xy_model


def mask_prompt(
    class_scores_grid: Float32, size_image: tuple[int, int], options: RefineOptions
) -> Float32:
    """Lr_i: L_d[i] (h_d, w_d) at 256, zero padded right and below, times tau_m where > tau_c."""
    size = preprocess_shape(*size_image, MASK_SIDE)
    scores = resize_bilinear(class_scores_grid, size)
    prompt = np.zeros((MASK_SIDE, MASK_SIDE), np.float32)
    prompt[: size[0], : size[1]] = np.where(
        scores > options.confidence_threshold, scores * np.float32(options.mask_prompt_scale), 0
    )
    return prompt
