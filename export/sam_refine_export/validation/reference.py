"""SAM as segment-anything computes it: what every export is compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sam_refine.contract import BOX_BOTTOM_RIGHT, MaskChoice, MaskPromptMode
from sam_refine_export.networks.sam_modules import SamModule
from sam_refine_export.networks.sam_networks import PIXEL_MEAN, PIXEL_STD, SamNetworks

_PROMPTS_AT_A_TIME = 2
"""Larger tensors get fresh pages from the system each time, up to a third of the time."""


@torch.no_grad()
def encode(encoder: Callable[[Tensor], Tensor], canvas: Tensor, canvas_size: Tensor) -> Tensor:
    """`Sam.preprocess` and an image encoder, one canvas after the other.

    uint8 (B, side, side, 3) and int64 (B, 2) to embeddings (B, D, h, w). `encoder` takes normalised
    RGB (1, 3, side, side), zero where there is no image.
    """
    embeddings = []
    for pixels, (height, width) in zip(canvas, canvas_size.tolist(), strict=True):
        image = pixels[:height, :width].permute(2, 0, 1).float()
        image = (image - torch.tensor(PIXEL_MEAN)[:, None, None]) / (
            torch.tensor(PIXEL_STD)[:, None, None]
        )
        right, below = canvas.shape[2] - width, canvas.shape[1] - height
        embeddings.append(encoder(nn.functional.pad(image, (0, right, 0, below))[None]))
    return torch.cat(embeddings)


@torch.no_grad()
def decode(
    networks: SamNetworks,
    image_embedding: Tensor,
    point_coords: Tensor,
    point_labels: Tensor,
    mask_prompts: Tensor,
    mask_index: Tensor,
    mask_prompt_mode: Tensor,
    mask_choice: Tensor,
    iou_threshold: Tensor,
    low_res_size: Tensor,
) -> tuple[Tensor, Tensor]:
    """Prompt encoder and mask decoder on the inputs of `contract.SAM_MASK_DECODER`.

    All masks to choose from (N, J, 256, 256) and their predicted IoUs (N, J): J is 1, 3 or 4, as
    the `MaskChoice` has it. Those below `iou_threshold` are among them, and what lies beyond
    `low_res_size`. A box must be the last two points of every prompt.
    """
    points = _embed_points(networks.prompt_encoder, point_coords, point_labels)
    dense = _embed_masks(networks.prompt_encoder, mask_prompts, int(mask_prompt_mode))
    predictions = [
        networks.mask_decoder.predict_masks(
            image_embeddings=image_embedding,
            image_pe=networks.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=some_points,
            dense_prompt_embeddings=dense[some_index],
        )
        for some_points, some_index in zip(
            torch.split(points, _PROMPTS_AT_A_TIME),
            torch.split(mask_index, _PROMPTS_AT_A_TIME),
            strict=True,
        )
    ]
    masks, ious = (torch.cat(parts) for parts in zip(*predictions, strict=True))
    choices = {MaskChoice.SINGLE: slice(1), MaskChoice.BEST_OF_THREE: slice(1, None)}
    looked_at = choices.get(MaskChoice(int(mask_choice)), slice(None))
    return masks[:, looked_at], ious[:, looked_at]


def choose(masks: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
    """The mask of the highest predicted IoU, the first of equals: (N, 1, 256, 256), (N, 1)."""
    best = ious.argmax(dim=1)
    prompt = torch.arange(len(best))
    return masks[prompt, best][:, None], ious[prompt, best][:, None]


def _embed_points(encoder: SamModule, coords: Tensor, labels: Tensor) -> Tensor:
    """`PromptEncoder.forward` on points and box, without the padding point that it may add."""
    if (labels[:, -1] != BOX_BOTTOM_RIGHT).any():
        embedded: Tensor = encoder._embed_points(coords, labels, pad=False)
        return embedded
    corners: Tensor = encoder._embed_boxes(coords[:, -2:].reshape(-1, 4))
    if coords.shape[1] == 2:
        return corners
    points = encoder._embed_points(coords[:, :-2], labels[:, :-2], pad=False)
    return torch.cat([points, corners], dim=1)


def _embed_masks(encoder: SamModule, masks: Tensor, mode: int) -> Tensor:
    """Mask prompts (K, 1, 4h, 4w) to (K, D, h, w)."""

    def embed(masks: Tensor | None) -> Tensor:
        embedded: Tensor = encoder(points=None, boxes=None, masks=masks)[1]
        return embedded

    if mode == MaskPromptMode.NONE:
        return embed(None).expand(len(masks), -1, -1, -1)
    if mode == MaskPromptMode.TRIDENT:
        return torch.stack([embed(mask) for mask in masks])  # each without its batch axis
    return embed(masks)
