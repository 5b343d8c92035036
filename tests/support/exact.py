"""Bilinear resizing on whole arrays, with the very bits that the library's has."""

from __future__ import annotations

import numpy as np
import torch

from support import straight


def bilinear(planes: np.ndarray, *sizes: tuple[int, int]) -> np.ndarray:
    """(C, h, w) resized to each size in turn, float32.

    Enlarging goes along the columns first, reducing along the rows: the order decides the last bit.
    """
    resized = torch.as_tensor(planes, dtype=torch.float32)
    for height, width in sizes:
        if height >= resized.shape[1]:
            resized = straight.bilinear(resized, (resized.shape[1], width))
        resized = straight.bilinear(resized, (height, resized.shape[2]))
        resized = straight.bilinear(resized, (height, width))
    return resized.numpy()
