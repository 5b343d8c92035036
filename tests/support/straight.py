"""Algorithm 4 written straight and slow in PyTorch, with segment-anything's own modules.

The oracle of the parity tests: one decoder call per class, one full-size mask per region, one
(C, H, W) array per step, and nothing shared with `sam_refine` but its options.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from sam_refine.contract import FailedRegions, MaskPrompt, RefineOptions


@dataclass(frozen=True)
class StraightRegion:
    class_id: int
    mask: torch.Tensor  # (h_d, w_d) bool
    box: tuple[int, int, int, int]  # x_min, y_min, x_max, y_max on the grid
    point: tuple[int, int]  # x, y on the grid
    score: float


@dataclass(frozen=True)
class StraightResult:
    labels: np.ndarray  # (H, W)
    logits: np.ndarray  # (C, H, W)
    classes: list[int]
    boxes: np.ndarray  # (Q, 4) in image pixels
    scores: np.ndarray  # (Q,)
    ious: np.ndarray  # (Q,)
    kept: np.ndarray  # (Q,)


@torch.no_grad()
def refine_straight(
    prompt_encoder: torch.nn.Module,
    mask_decoder: torch.nn.Module,
    embedding: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray | None,
    size_image: tuple[int, int],
    options: RefineOptions,
) -> StraightResult:
    """Scores (C, h, w), labels (H, W) or None, embedding (1, 256, 64, 64)."""
    height, width = size_image
    r, tau_c = options.downsample_ratio, options.confidence_threshold
    scores_image = bilinear(torch.as_tensor(scores, dtype=torch.float32), size_image)
    if labels is None:
        labels_image = torch.as_tensor(scores_image.numpy().argmax(axis=0))
    else:
        labels_image = torch.as_tensor(labels, dtype=torch.int64)
    size_grid = max(1, height // r), max(1, width // r)
    labels_grid = nearest(labels_image, size_grid)
    scores_grid = bilinear(scores_image, size_grid)
    if tau_c > 0:
        labels_grid[scores_grid.max(dim=0).values < tau_c] = len(scores)

    regions = split_regions(labels_grid, scores_grid, options)
    ious = torch.zeros(len(regions))
    low_res = torch.zeros(len(regions), 256, 256)
    for class_id in sorted({region.class_id for region in regions}):
        chosen = [q for q, region in enumerate(regions) if region.class_id == class_id]
        low_res[chosen], ious[chosen] = predict(
            prompt_encoder,
            mask_decoder,
            torch.as_tensor(embedding),
            [regions[q] for q in chosen],
            mask_prompt(scores_grid[class_id], size_image, options),
            size_grid,
            options,
        )
    kept = ious > options.iou_threshold
    refined_labels, refined_scores = labels_image, scores_image
    if kept.any():
        masks = postprocess_masks(low_res, size_image)
        kept_of = [[q for q in range(len(regions)) if kept[q] and regions[q].class_id == i]
                   for i in range(len(scores))]  # fmt: skip
        refined_scores = map_refinement(masks, kept_of, scores_image)
        best = refined_scores.max(dim=0).values
        refined_labels = torch.as_tensor(refined_scores.numpy().argmax(axis=0))
        refined_labels = torch.where(refined_scores.sum(dim=0) == 0, labels_image, refined_labels)
        if not kept.all():
            grids = [region.mask for q, region in enumerate(regions) if not kept[q]]
            failed = torch.stack([nearest(grid, size_image) for grid in grids]).any(dim=0)
            if options.failed_regions is FailedRegions.KEEP_COARSE:
                refined_labels = torch.where(failed, labels_image, refined_labels)
            if options.failed_regions is FailedRegions.COMPETE:
                wins = failed & (scores_image.max(dim=0).values > best)
                refined_labels = torch.where(wins, labels_image, refined_labels)
            refined_scores = torch.maximum(refined_scores, failed * scores_image)
    if options.ignore_label is not None:
        ignored = labels_image == options.ignore_label
        refined_labels = torch.where(ignored, labels_image, refined_labels)
    return StraightResult(
        labels=refined_labels.numpy(),
        logits=refined_scores.numpy(),
        classes=[region.class_id for region in regions],
        boxes=np.array([region.box for region in regions]).reshape(-1, 4) * r,
        scores=np.array([region.score for region in regions]),
        ious=ious.numpy(),
        kept=kept.numpy(),
    )


def split_regions(
    labels_grid: torch.Tensor, scores_grid: torch.Tensor, options: RefineOptions
) -> list[StraightRegion]:
    regions = []
    for class_id, class_scores in enumerate(scores_grid):
        too_low = (
            class_scores.max() < options.confidence_threshold and options.confidence_threshold > 0
        )
        if too_low or class_id == options.ignore_label:
            continue
        for cells in components(labels_grid == class_id):
            if len(cells) < options.min_region_area:
                continue
            rows, columns = torch.tensor(cells).T
            values = class_scores[rows, columns]
            best = min(cell for cell in cells if class_scores[cell] == values.max())
            mask = torch.zeros_like(labels_grid, dtype=torch.bool)
            mask[rows, columns] = True
            box = (columns.min(), rows.min(), columns.max(), rows.max())
            regions.append(
                StraightRegion(
                    class_id,
                    mask,
                    tuple(int(side) for side in box),
                    (best[1], best[0]),
                    float(values.mean()),
                )
            )
    return regions


def components(mask: torch.Tensor) -> list[list[tuple[int, int]]]:
    """8-connected components by flood fill, in raster order of their first cells."""
    left = {(int(y), int(x)) for y, x in mask.nonzero()}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        cells, front = [start], [start]
        while front:
            y, x = front.pop()
            for neighbour in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if neighbour in left:
                    left.remove(neighbour)
                    cells.append(neighbour)
                    front.append(neighbour)
        found.append(cells)
    return found


def predict(
    prompt_encoder: torch.nn.Module,
    mask_decoder: torch.nn.Module,
    embedding: torch.Tensor,
    regions: list[StraightRegion],
    mask: torch.Tensor,
    size_grid: tuple[int, int],
    options: RefineOptions,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One call for the regions of one class: low-res logits (n, 256, 256), IoUs (n,)."""
    height, width = preprocess_shape(*size_grid, 1024)
    scale = torch.tensor([width / size_grid[1], height / size_grid[0]])
    points = torch.tensor([region.point for region in regions]) * scale
    boxes = torch.tensor([region.box for region in regions]) * scale.repeat(2)
    masks = {
        MaskPrompt.NONE: None,
        MaskPrompt.SAM: mask[None, None].expand(len(regions), 1, 256, 256),
        MaskPrompt.TRIDENT: mask[None],  # without its batch axis
    }[options.mask_prompt]
    sparse, dense = prompt_encoder(
        points=(points[:, None], torch.ones(len(regions), 1)), boxes=boxes, masks=masks
    )
    logits, ious = mask_decoder(
        image_embeddings=embedding,
        image_pe=prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=options.multimask_output,
    )
    best = ious.argmax(dim=1)
    each = torch.arange(len(regions))
    return logits[each, best], ious[each, best]


def mask_prompt(
    class_scores: torch.Tensor, size_image: tuple[int, int], options: RefineOptions
) -> torch.Tensor:
    height, width = preprocess_shape(*size_image, 256)
    scores = bilinear(class_scores[None], (height, width))[0]
    scores = scores * options.mask_prompt_scale * (scores > options.confidence_threshold)
    return F.pad(scores, (0, 256 - width, 0, 256 - height))


def postprocess_masks(low_res: torch.Tensor, size_image: tuple[int, int]) -> torch.Tensor:
    height, width = preprocess_shape(*size_image, 1024)
    return bilinear(bilinear(low_res, (1024, 1024))[:, :height, :width], size_image)


def map_refinement(
    masks: torch.Tensor, kept_of: list[list[int]], scores_image: torch.Tensor
) -> torch.Tensor:
    refined = torch.zeros_like(scores_image)
    for class_id, kept in enumerate(kept_of):
        if kept:
            votes = torch.sigmoid(masks[kept]) * scores_image[class_id]
            covered = (masks[kept] > 0).any(dim=0)
            refined[class_id] = votes.max(dim=0).values * covered
    return refined


def bilinear(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """`F.interpolate(mode="bilinear")`, but exact where two neighbours are equal.

    There `F.interpolate` leaves differences of one rounding, and which pixel of a plateau is the
    best one would be left to chance. A test holds the two against each other.
    """
    for axis, size_out in zip((-2, -1), size, strict=True):
        size_in = planes.shape[axis]
        scale = torch.tensor(size_in, dtype=torch.float32) / size_out
        source = (scale * (torch.arange(size_out) + 0.5) - 0.5).clamp(min=0)
        lower = source.long().clamp(max=size_in - 1)
        upper = (lower + 1).clamp(max=size_in - 1)
        weight = (source - lower).clamp(0, 1)
        weight = weight[:, None] if axis == -2 else weight
        start, end = planes.index_select(axis, lower), planes.index_select(axis, upper)
        planes = start + (end - start) * weight
    return planes


def nearest(plane: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    rows, columns = (
        torch.arange(out) * source // out for out, source in zip(size, plane.shape, strict=True)
    )
    return plane[rows[:, None], columns].clone()


def preprocess_shape(height: int, width: int, side: int) -> tuple[int, int]:
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
