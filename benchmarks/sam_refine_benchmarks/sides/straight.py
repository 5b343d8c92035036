"""Algorithm 4 as research code writes it: PyTorch, segment-anything's own modules, no tricks.

One decoder call per class, one full-size mask per region, one (C, H, W) array per step. Where the
published code does a thing twice, here it is done once. The benchmarks compare times with it, the
tests results: it shares nothing with `sam_refine` but the contract, and all of SAM's preprocessing
is written out.

Two parts can be exchanged (`Parts`). Research code calls a library for both, and so does the
baseline (`LIBRARY`). The tests bring their own, which are far too slow to be compared with:
`F.interpolate` leaves differences of one rounding between equal neighbours, so that the best cell
of a plateau, a region's point, would be left to chance; and cc3d is what `sam_refine` calls too.

Lines are those of the listing in docs/algorithm.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cc3d
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sam_refine.contract import MASK_SIDE, MODEL_SIDE, FailedRegions, MaskPrompt, RefineOptions

if TYPE_CHECKING:
    from sam_refine_export.networks.sam_networks import SamNetworks

_PIXEL_MEAN = torch.tensor([123.675, 116.28, 103.53])
_PIXEL_STD = torch.tensor([58.395, 57.12, 57.375])

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Parts:
    """What can be taken from a library, or be written out."""

    bilinear: Callable[[Tensor, tuple[int, int]], Tensor]
    """Planes (n, h, w) float32 at another size; half-pixel centres, no antialiasing."""
    components: Callable[[UInt8], Indices]
    """A map (h, w) of 0 and 1 to its 8-connected components: 1 to n, and 0 where the map is 0."""


def _interpolate(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(planes[None], size_hw, mode="bilinear", align_corners=False)[0]


def _cc3d_components(one_class: UInt8) -> Indices:
    components: Indices = cc3d.connected_components(one_class, connectivity=8)
    return components


LIBRARY = Parts(_interpolate, _cc3d_components)


@dataclass(frozen=True)
class ClassRegions:
    """The n regions of one class."""

    class_id: int
    masks: Tensor
    """(n, h_d, w_d) bool."""
    boxes_xyxy: Tensor
    """(n, 4) int64, inclusive cells."""
    points_xy: Tensor
    """(n, 2) int64."""
    scores: Tensor
    """(n,) float32."""

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True)
class StraightMap:
    """S' and L'."""

    labels: Tensor
    """(H, W) int64."""
    logits: Tensor
    """(C, H, W) float32."""


@dataclass(frozen=True)
class StraightResult:
    """What the whole algorithm gives: the map, and Q regions in the order of their classes."""

    labels: npt.NDArray[np.int64]
    """S': (H, W)."""
    logits: Float32
    """L': (C, H, W)."""
    classes: npt.NDArray[np.int64]
    """(Q,)."""
    boxes_xyxy_image: npt.NDArray[np.int64]
    """(Q, 4)."""
    scores: Float32
    """(Q,)."""
    ious: Float32
    """(Q,)."""
    kept: npt.NDArray[np.bool_]
    """(Q,)."""


@torch.inference_mode()
def refine(
    networks: SamNetworks,
    image: UInt8,
    scores: npt.NDArray[np.float16] | Float32,
    options: RefineOptions,
    labels: npt.NDArray[np.int32] | None = None,
    parts: Parts = LIBRARY,
) -> StraightResult:
    """The whole of it: image (H, W, 3), class scores (C, h, w), labels (H, W) or their argmax."""
    size = image.shape[0], image.shape[1]
    r = options.downsample_ratio
    scores_image = parts.bilinear(torch.from_numpy(scores).float(), size)
    labels_image = scores_image.argmax(dim=0) if labels is None else torch.from_numpy(labels).long()
    size_grid = max(1, size[0] // r), max(1, size[1] // r)
    labels_grid = nearest(labels_image, size_grid)
    scores_grid = parts.bilinear(scores_image, size_grid)

    split = split_regions(labels_grid, scores_grid, options, parts)
    embedding = encode(networks, image) if split else torch.empty(0)
    masks, ious = [], []
    for regions in split:
        prompt = mask_prompt(scores_grid[regions.class_id], size, options, parts)
        points = to_model(regions.points_xy.float(), size_grid)
        boxes = to_model(regions.boxes_xyxy.float().reshape(-1, 2, 2), size_grid).reshape(-1, 4)
        low_res_logits, iou = predict(
            networks,
            embedding,
            points,
            boxes,
            as_input(prompt, options.mask_prompt),
            multimask_output=options.multimask_output,
        )
        masks.append(low_res_logits)
        ious.append(iou)
    kept = [iou > options.iou_threshold for iou in ious]
    refined = merge(split, masks, kept, scores_image, labels_image, options, parts)
    classes = [torch.full((len(regions),), regions.class_id) for regions in split]
    return StraightResult(
        labels=refined.labels.numpy(),
        logits=refined.logits.numpy(),
        classes=_joined(classes, torch.int64).numpy(),
        boxes_xyxy_image=_joined([each.boxes_xyxy for each in split], torch.int64, 4).numpy() * r,
        scores=_joined([each.scores for each in split], torch.float32).numpy(),
        ious=_joined(ious, torch.float32).numpy(),
        kept=_joined(kept, torch.bool).numpy(),
    )


def encode(networks: SamNetworks, image: UInt8) -> Tensor:
    """SAM's preprocessing and image encoder: (1, 256, 64, 64)."""
    height, width = preprocess_shape(image.shape[0], image.shape[1], MODEL_SIDE)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    embedding: Tensor = networks.image_encoder(normalise(np.array(resized)))
    return embedding


def normalise(image: UInt8) -> Tensor:
    """RGB of longest side 1024, normalised and zero padded: (1, 3, 1024, 1024)."""
    pixels = ((torch.from_numpy(image).float() - _PIXEL_MEAN) / _PIXEL_STD).permute(2, 0, 1)
    below, right = MODEL_SIDE - pixels.shape[1], MODEL_SIDE - pixels.shape[2]
    return F.pad(pixels, (0, right, 0, below))[None]


def split_regions(
    labels_grid: Tensor, scores_grid: Tensor, options: RefineOptions, parts: Parts = LIBRARY
) -> list[ClassRegions]:
    """Lines 4 to 6: components of each class of the one-hot map, each region with its own mask.

    Labels (h_d, w_d) int64, scores (C, h_d, w_d). Classes without regions are left out.
    """
    tau_c, count = options.confidence_threshold, len(scores_grid)
    rejected = (labels_grid < 0) | (labels_grid >= count)
    if tau_c > 0:
        rejected |= scores_grid.max(dim=0).values < tau_c
    one_hot = F.one_hot(labels_grid.masked_fill(rejected, count), count + 1).permute(2, 0, 1)
    split = []
    for class_id, class_scores in enumerate(scores_grid):
        if class_id == options.ignore_label or (tau_c > 0 and class_scores.max() < tau_c):
            continue
        # cc3d 4.1.1 gives wrong components of bool maps whose width is odd
        components = parts.components(one_hot[class_id].numpy().astype(np.uint8))
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
    class_scores: Tensor,
    size_image: tuple[int, int],
    options: RefineOptions,
    parts: Parts = LIBRARY,
) -> Tensor:
    """Lines 12 and 13: scores (h_d, w_d) of a class at 256, zero padded, scaled: (256, 256)."""
    height, width = preprocess_shape(*size_image, MASK_SIDE)
    (scores,) = parts.bilinear(class_scores[None], (height, width))
    scores = scores * options.mask_prompt_scale * (scores > options.confidence_threshold)
    return F.pad(scores, (0, MASK_SIDE - width, 0, MASK_SIDE - height))


def as_input(mask: Tensor, mode: MaskPrompt) -> Tensor | None:
    """A class's mask prompt (256, 256) as the prompt encoder gets it; one for all its prompts."""
    return {
        MaskPrompt.NONE: None,
        MaskPrompt.SAM: mask[None, None],
        MaskPrompt.TRIDENT: mask[None],  # without its batch axis
    }[mode]


def to_model(points_xy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Line 14: points (..., 2) of a map of `size_hw` on SAM's canvas."""
    height, width = preprocess_shape(*size_hw, MODEL_SIDE)
    return points_xy * torch.tensor([width / size_hw[1], height / size_hw[0]])


def predict(
    networks: SamNetworks,
    embedding: Tensor,
    points_xy: Tensor,
    boxes_xyxy: Tensor,
    mask: Tensor | None,
    *,
    multimask_output: bool = False,
) -> tuple[Tensor, Tensor]:
    """Line 18: one decoder call for the n prompts of a class.

    Returns the mask of the highest predicted IoU, logits (n, 256, 256), and these IoUs (n,).
    """
    sparse, dense = networks.prompt_encoder(
        points=(points_xy[:, None], torch.ones(len(points_xy), 1)), boxes=boxes_xyxy, masks=mask
    )
    low_res_logits, ious = networks.mask_decoder(
        image_embeddings=embedding,
        image_pe=networks.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask_output,
    )
    best, each = ious.argmax(dim=1), torch.arange(len(ious))
    return low_res_logits[each, best], ious[each, best]


def merge(
    split: Sequence[ClassRegions],
    low_res_logits: Sequence[Tensor],
    kept: Sequence[Tensor],
    scores_image: Tensor,
    labels_image: Tensor,
    options: RefineOptions,
    parts: Parts = LIBRARY,
) -> StraightMap:
    """Lines 21 to 28: from the masks of all regions to the map; as it came where none is kept.

    Per class with regions: its regions, logits (n, 256, 256), and which are kept (n,).
    """
    size = labels_image.shape[0], labels_image.shape[1]
    if not any(valid.any() for valid in kept):
        return StraightMap(labels_image, scores_image)
    low_res = torch.cat([logits[valid] for logits, valid in zip(low_res_logits, kept, strict=True)])
    classes = torch.tensor([each.class_id for each in split]).repeat_interleave(
        torch.tensor([int(valid.sum()) for valid in kept])
    )
    masks = postprocess_masks(low_res, size, parts)
    logits = map_refinement(masks, classes, scores_image)
    labels = fall_back(logits, labels_image)
    failed_regions = torch.cat(
        [each.masks[~valid] for each, valid in zip(split, kept, strict=True)]
    )
    if len(failed_regions):
        failed = nearest(failed_regions, size).any(dim=0)
        labels = failed_labels(labels, logits, failed, scores_image, labels_image, options)
        logits = torch.maximum(logits, failed * scores_image)
    return StraightMap(keep_ignored(labels, labels_image, options), logits)


def postprocess_masks(
    low_res_logits: Tensor, size_image: tuple[int, int], parts: Parts = LIBRARY
) -> Tensor:
    """Line 23: (n, 256, 256) to (n, H, W)."""
    height, width = preprocess_shape(*size_image, MODEL_SIDE)
    canvas = parts.bilinear(low_res_logits, (MODEL_SIDE, MODEL_SIDE))
    return parts.bilinear(canvas[:, :height, :width], size_image)


def map_refinement(masks: Tensor, classes: Tensor, scores_image: Tensor) -> Tensor:
    """Line 24: L' (C, H, W) of masks (n, H, W) whose classes (n,) are sorted."""
    votes = masks.sigmoid()
    refined = torch.zeros_like(scores_image)
    class_ids, counts = torch.unique_consecutive(classes, return_counts=True)
    ends = counts.cumsum(dim=0)
    for class_id, start, end in zip(class_ids, ends - counts, ends, strict=True):
        class_votes = votes[start:end] * scores_image[class_id]
        covered = (masks[start:end] > 0).any(dim=0)
        refined[class_id] = class_votes.max(dim=0).values * covered
    return refined


def fall_back(logits: Tensor, labels_image: Tensor) -> Tensor:
    """Lines 24 and 25: S' of L', and the coarse label where L' says nothing."""
    return torch.where(logits.sum(dim=0) == 0, labels_image, logits.argmax(dim=0))


def failed_labels(
    labels: Tensor,
    logits: Tensor,
    failed: Tensor,
    scores_image: Tensor,
    labels_image: Tensor,
    options: RefineOptions,
) -> Tensor:
    """Line 26: S' where regions failed, (H, W) bool; `logits` are L' before they are lifted."""
    if options.failed_regions is FailedRegions.KEEP_COARSE:
        return torch.where(failed, labels_image, labels)
    if options.failed_regions is FailedRegions.COMPETE:
        wins = failed & (scores_image.max(dim=0).values > logits.max(dim=0).values)
        return torch.where(wins, labels_image, labels)
    return labels


def keep_ignored(labels: Tensor, labels_image: Tensor, options: RefineOptions) -> Tensor:
    """Pixels of `ignore_label` keep it."""
    if options.ignore_label is None:
        return labels
    return torch.where(labels_image == options.ignore_label, labels_image, labels)


def nearest(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Planes (..., h, w) at another size: source row floor(i * h / H), in whole numbers."""
    rows, columns = (
        torch.arange(out) * source // out
        for out, source in zip(size_hw, planes.shape[-2:], strict=True)
    )
    return planes.index_select(-2, rows).index_select(-1, columns)


def preprocess_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """What `GetPreprocessShape` gives, but never 0: the longer side becomes `side`."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def _joined(tensors: Sequence[Tensor], dtype: torch.dtype, *shape: int) -> Tensor:
    """All of them in a row, which may be none; elements are of this dtype and shape."""
    return torch.cat([torch.empty(0, *shape, dtype=dtype), *tensors])


def _box(mask: Tensor) -> Tensor:
    rows, columns = torch.where(mask)
    return torch.stack([columns.min(), rows.min(), columns.max(), rows.max()])
