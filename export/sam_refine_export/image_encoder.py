"""SAM's image encoder behind SAM's own normalisation and padding, both inside the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Per channel of RGB in 0 to 255 (segment-anything build_sam.py)."""


class ImageEncoder(nn.Module):
    """Canvases to embeddings (`contract.SAM_IMAGE_ENCODER`)."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module) -> None:
        """`encoder` takes normalised RGB (B, 3, side, side), zero where there is no image."""
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN))
        self.register_buffer("std", torch.tensor(PIXEL_STD))

    def forward(self, canvas: Tensor, canvas_size: Tensor) -> Tensor:
        """uint8 RGB (B, side, side, 3) and int64 (h, w) of the image on it (B, 2).

        SAM normalises first and pads with zeros afterwards (`Sam.preprocess`), so what the canvas
        holds outside the image does not matter.
        """
        normalised = (canvas.float() - self.mean) / self.std
        rows = torch.arange(canvas.shape[1]) < canvas_size[:, :1]  # (B, side)
        columns = torch.arange(canvas.shape[2]) < canvas_size[:, 1:]  # (B, side)
        is_image = (rows[:, :, None] & columns[:, None, :])[..., None]
        padded = torch.where(is_image, normalised, 0.0)
        image_embedding: Tensor = self.encoder(padded.permute(0, 3, 1, 2))
        return image_embedding
