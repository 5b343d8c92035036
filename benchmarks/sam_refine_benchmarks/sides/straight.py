"""Algorithm 4 as research code writes it: PyTorch, segment-anything's own modules, no tricks.

One decoder call per class, one full-size mask per region, one (C, H, W) array per step. Where the
published code does a thing twice, here it is done once. Mask prompt mode `sam`, single mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sam_refine.contract import MASK_SIDE, MODEL_SIDE, RefineOptions
from sam_refine_export.networks.sam_networks import SamNetworks

_PIXEL_MEAN = torch.tensor([123.675, 116.28, 103.53])
_PIXEL_STD = torch.tensor([58.395, 57.12, 57.375])


@dataclass(frozen=True)
class ClassRegions:
    """The n regions of one class."""

    class_id: int
    masks: Tensor
    """(n, h_d, w_d) bool."""
    boxes_xyxy: Tensor
    """(n, 4)."""
    points_xy: Tensor
    """(n, 2)."""
    scores: Tensor
    """(n,)."""

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True)
class StraightMap:
    """S' and L'."""

    labels: Tensor
    """(H, W)."""
    logits: Tensor
    """(C, H, W)."""


@dataclass(frozen=True)
class StraightResult:
    """What the whole algorithm gives."""

    labels: npt.NDArray[np.int64]
    regions: int
    kept: int


@torch.inference_mode()
def refine(
    networks: SamNetworks,
    image: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float16] | npt.NDArray[np.float32],
    options: RefineOptions,
) -> StraightResult:
    """The whole of it: image (H, W, 3), class scores (C, h, w)."""
    size = image.shape[0], image.shape[1]
    scores_image = _bilinear(torch.from_numpy(scores).float(), size)
    labels_image = scores_image.argmax(dim=0)
    size_grid = size[0] // options.downsample_ratio, size[1] // options.downsample_ratio
    labels_grid = _nearest(labels_image[None], size_grid)[0].long()
    scores_grid = _bilinear(scores_image, size_grid)

    split = split_regions(labels_grid, scores_grid, options)
    embedding = encode(networks, image)
    masks, ious = [], []
    for regions in split:
        prompt = mask_prompt(scores_grid[regions.class_id], size, options)
        points = to_model(regions.points_xy.float(), size_grid)
        boxes = to_model(regions.boxes_xyxy.float().reshape(-1, 2, 2), size_grid).reshape(-1, 4)
        low_res_logits, iou = predict(networks, embedding, points, boxes, prompt)
        masks.append(low_res_logits)
        ious.append(iou)
    kept = [iou > options.iou_threshold for iou in ious]
    count = sum(len(regions) for regions in split)
    if not any(each.any() for each in kept):
        return StraightResult(labels_image.numpy(), count, 0)
    refined = merge(split, masks, kept, scores_image, labels_image)
    return StraightResult(refined.labels.numpy(), count, int(torch.cat(kept).sum()))


def encode(networks: SamNetworks, image: npt.NDArray[np.uint8]) -> Tensor:
    """SAM's preprocessing and image encoder: (1, 256, 64, 64)."""
    height, width = _preprocess_shape(image.shape[0], image.shape[1], MODEL_SIDE)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    embedding: Tensor = networks.image_encoder(normalise(np.array(resized)))
    return embedding


def normalise(image: npt.NDArray[np.uint8]) -> Tensor:
    """RGB of longest side 1024, normalised and zero padded: (1, 3, 1024, 1024)."""
    pixels = ((torch.from_numpy(image).float() - _PIXEL_MEAN) / _PIXEL_STD).permute(2, 0, 1)
    below, right = MODEL_SIDE - pixels.shape[1], MODEL_SIDE - pixels.shape[2]
    return F.pad(pixels, (0, right, 0, below))[None]


def split_regions(
    labels_grid: Tensor, scores_grid: Tensor, options: RefineOptions
) -> list[ClassRegions]:
    """Components of each class of the one-hot map, each region with a mask of its own.

    Labels (h_d, w_d) int64, scores (C, h_d, w_d).
    """
    one_hot = F.one_hot(labels_grid, len(scores_grid)).permute(2, 0, 1).numpy()
    split = []
    for class_id, class_scores in enumerate(scores_grid):
        # cc3d 4.1.1 gives wrong components of bool maps whose width is odd
        one_class = one_hot[class_id].astype(np.uint8)
        components = cc3d.connected_components(one_class, connectivity=8)
        masks, points, scores = [], [], []
        for component in range(1, int(components.max()) + 1):
            mask = torch.from_numpy(components == component)
            if mask.sum() < options.min_region_area:
                continue
            best = torch.argmax(torch.where(mask, class_scores, -torch.inf))
            width = class_scores.shape[1]
            masks.append(mask)
            points.append(torch.stack([best % width, best // width]))
            scores.append(class_scores[mask].mean())
        if masks:
            stacked = torch.stack(masks)
            boxes = torch.stack([_box(mask) for mask in stacked])
            split.append(
                ClassRegions(class_id, stacked, boxes, torch.stack(points), torch.stack(scores))
            )
    return split


def mask_prompt(
    class_scores: Tensor, size_image: tuple[int, int], options: RefineOptions
) -> Tensor:
    """Scores of a class at 256, zero padded, scaled: (1, 1, 256, 256)."""
    height, width = _preprocess_shape(*size_image, MASK_SIDE)
    scores = _bilinear(class_scores[None], (height, width))
    scores = scores * options.mask_prompt_scale * (scores > options.confidence_threshold)
    return F.pad(scores, (0, MASK_SIDE - width, 0, MASK_SIDE - height))[None]


def to_model(points_xy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Points (..., 2) of a map of `size_hw` on SAM's canvas."""
    height, width = _preprocess_shape(*size_hw, MODEL_SIDE)
    return points_xy * torch.tensor([width / size_hw[1], height / size_hw[0]])


def predict(
    networks: SamNetworks, embedding: Tensor, points_xy: Tensor, boxes_xyxy: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """One decoder call for the n prompts of a class: logits (n, 256, 256), predicted IoUs (n,)."""
    sparse, dense = networks.prompt_encoder(
        points=(points_xy[:, None], torch.ones(len(points_xy), 1)), boxes=boxes_xyxy, masks=mask
    )
    low_res_logits, ious = networks.mask_decoder(
        image_embeddings=embedding,
        image_pe=networks.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return low_res_logits[:, 0], ious[:, 0]


def merge(
    split: Sequence[ClassRegions],
    low_res_logits: Sequence[Tensor],
    kept: Sequence[Tensor],
    scores_image: Tensor,
    labels_image: Tensor,
) -> StraightMap:
    """PostprocessMasks, MapRefinement, the fallback and MapFailedRegions (`scores_only`).

    Per class with regions: its regions, logits (n, 256, 256), and which are kept (n,).
    """
    size = labels_image.shape[0], labels_image.shape[1]
    low_res = torch.cat([logits[valid] for logits, valid in zip(low_res_logits, kept, strict=True)])
    masks = postprocess_masks(low_res, size)
    votes = masks.sigmoid()
    refined = torch.zeros_like(scores_image)
    for regions, chosen in _chosen(split, kept):
        class_votes = votes[chosen] * scores_image[regions.class_id]
        covered = (masks[chosen] > 0).any(dim=0)
        refined[regions.class_id] = class_votes.max(dim=0).values * covered
    labels = torch.where(refined.sum(dim=0) == 0, labels_image, refined.argmax(dim=0))
    failed = [regions.masks[~valid] for regions, valid in zip(split, kept, strict=True)]
    failed_regions = torch.cat(failed)
    if len(failed_regions):
        on_failed = _nearest(failed_regions, size).sum(dim=0) > 0
        refined = torch.maximum(refined, on_failed * scores_image)
    return StraightMap(labels, refined)


def postprocess_masks(low_res_logits: Tensor, size_image: tuple[int, int]) -> Tensor:
    """(n, 256, 256) to (n, H, W)."""
    height, width = _preprocess_shape(*size_image, MODEL_SIDE)
    canvas = _bilinear(low_res_logits, (MODEL_SIDE, MODEL_SIDE))
    return _bilinear(canvas[:, :height, :width], size_image)


def _chosen(
    split: Sequence[ClassRegions], kept: Sequence[Tensor]
) -> Iterator[tuple[ClassRegions, slice]]:
    """Classes that keep regions, and where those lie among all kept ones."""
    start = 0
    for regions, valid in zip(split, kept, strict=True):
        stop = start + int(valid.sum())
        if stop > start:
            yield regions, slice(start, stop)
        start = stop


def _box(mask: Tensor) -> Tensor:
    rows, columns = torch.where(mask)
    return torch.stack([columns.min(), rows.min(), columns.max(), rows.max()])


def _bilinear(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(planes[None], size_hw, mode="bilinear", align_corners=False)[0]


def _nearest(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(planes[None].float(), size_hw, mode="nearest")[0]


def _preprocess_shape(height: int, width: int, side: int) -> tuple[int, int]:
    scale = side / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)
