"""SAM's image encoder behind SAM's own normalisation and padding, both inside the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_refine_export.graphs.rearranged_tiny_vit import RearrangedTinyViT
from sam_refine_export.networks.sam_networks import PIXEL_MEAN, PIXEL_STD
from sam_refine_export.networks.tiny_vit import TinyViT


class ImageEncoder(nn.Module):
    """Canvases to embeddings (`contract.SAM_IMAGE_ENCODER`)."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module) -> None:
        """`encoder` takes normalised RGB (B, 3, side, side), zero where there is no image.

        It is not changed; a `TinyViT` is replaced by a rearranged one that computes the same.
        """
        super().__init__()
        self.encoder = RearrangedTinyViT(encoder) if isinstance(encoder, TinyViT) else encoder
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(PIXEL_STD)[:, None, None])

    def forward(self, canvas: Tensor, canvas_size: Tensor) -> Tensor:
        """uint8 RGB (B, side, side, 3) and int64 (h, w) of the image on it (B, 2).

        SAM normalises first and pads with zeros afterwards (`Sam.preprocess`), so what the canvas
        holds outside the image does not matter.
        """
        # Transposed first, while still bytes, and multiplied by the mask rather than selected with
        # it: ONNX Runtime takes ten times as long where the three channels come last.
        normalised = (canvas.permute(0, 3, 1, 2).float() - self.mean) / self.std
        rows = torch.arange(canvas.shape[1]) < canvas_size[:, :1]  # (B, side)
        columns = torch.arange(canvas.shape[2]) < canvas_size[:, 1:]  # (B, side)
        is_image = rows.float()[:, None, :, None] * columns.float()[:, None, None, :]
        image_embedding: Tensor = self.encoder(normalised * is_image)
        return image_embedding
