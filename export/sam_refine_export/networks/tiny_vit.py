"""MobileSAM's image encoder: TinyViT-5M at 1024 pixels with SAM's neck, for inference.

Architecture of Wu et al., "TinyViT" (ECCV 2022, arXiv 2207.10666) as MobileSAM (Zhang et al., 2023,
arXiv 2306.14289) uses it; batch norms are folded into the convolutions before them and there is no
dropout. Submodules are defined in the order in which they run: `mobile_sam` relies on it.

In shapes B is the batch, (h, w) a stage's grid and D its width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_refine_export.networks.sam_modules import modeling


class Conv3x3(nn.Conv2d):
    """A padded 3x3 convolution; `groups=width` makes it depthwise."""

    def __init__(self, width_in: int, width_out: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width_in, width_out, 3, stride, padding=1, groups=groups)


class InvertedBottleneck(nn.Module):
    """MBConv: widen by four, depthwise, narrow; residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 4 * width, 1)
        self.conv2 = Conv3x3(4 * width, 4 * width, groups=4 * width)
        self.conv3 = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to the same shape."""
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """The step between two stages: from one width to the next, by `stride` on the grid."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 1)
        self.conv2 = Conv3x3(width_out, width_out, stride, groups=width_out)
        self.conv3 = nn.Conv2d(width_out, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D_in, h, w) to (B, D_out, h / stride, w / stride)."""
        x = F.gelu(self.conv1(x))
        y: Tensor = self.conv3(F.gelu(self.conv2(x)))
        return y


class WindowAttention(nn.Module):
    """Attention among the tokens of one window, with a learned bias for every pair of positions."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.pair_bias = nn.Parameter(torch.zeros(heads, window**2, window**2))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(windows, tokens, D) to the same shape."""
        qkv = torch.unflatten(self.qkv(self.norm(x)), -1, (self.heads, 3, -1))
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)  # each (windows, heads, tokens, D / heads)
        weights = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5 + self.pair_bias
        x = torch.softmax(weights, dim=-1) @ v
        y: Tensor = self.proj(x.transpose(1, 2).flatten(2))
        return y


class FeedForward(nn.Module):
    """Widen by four and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same shape."""
        y: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return y


class WindowBlock(nn.Module):
    """Window attention, a depthwise convolution across window borders, a feed-forward."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = Conv3x3(width, width, groups=width)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to the same shape."""
        x = x.permute(0, 2, 3, 1)
        x = x + self._attend_in_windows(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y: Tensor = (x + self.mlp(x)).permute(0, 3, 1, 2)
        return y

    def _attend_in_windows(self, x: Tensor) -> Tensor:
        """(B, h, w, D); grids that are not a multiple of the window are padded with zeros.

        The padding takes part in the attention, as it did when the network was trained.
        """
        _, height, width, _ = x.shape
        side = self.window
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        x = torch.unflatten(torch.unflatten(x, 2, (columns, side)), 1, (rows, side))
        x = self.attn(x.transpose(2, 3).flatten(3, 4).flatten(0, 2))  # (windows, tokens, D)
        x = torch.unflatten(torch.unflatten(x, 1, (side, side)), 0, (-1, rows, columns))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return x[:, :height, :width]


class Stage(nn.Module):
    """Blocks of one width, then the step to the next stage."""

    def __init__(self, blocks: Iterable[nn.Module], downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to what `downsample` makes of that."""
        y: Tensor = self.downsample(self.blocks(x))
        return y


class TinyViT(nn.Module):
    """TinyViT-5M without its classifier, and SAM's neck."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(
            Conv3x3(3, 32, stride=2), nn.GELU(), Conv3x3(32, 64, stride=2)
        )
        self.layers = nn.Sequential(
            Stage((InvertedBottleneck(64) for _ in range(2)), PatchMerging(64, 128, stride=2)),
            Stage((WindowBlock(128, 4, 7) for _ in range(2)), PatchMerging(128, 160, stride=2)),
            Stage((WindowBlock(160, 5, 14) for _ in range(6)), PatchMerging(160, 320, stride=1)),
            Stage((WindowBlock(320, 10, 7) for _ in range(2)), nn.Identity()),
        )
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, 1, bias=False),
            modeling.common.LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            modeling.common.LayerNorm2d(256),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, 1024, 1024) to embeddings (B, 256, 64, 64), both float32."""
        y: Tensor = self.neck(self.layers(self.patch_embed(x)))
        return y
