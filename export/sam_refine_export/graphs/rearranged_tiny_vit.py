"""MobileSAM's image encoder, rearranged for ONNX Runtime.

It computes what `TinyViT` computes, from its parameters, but does the arithmetic in another order:

- only the grid's own tokens are projected, and a single zero token stands for all the padding of
  the windows. It has to stay zero, so biases come later: that of queries once the windows are cut,
  that of values after the attention, while that of keys cancels in the softmax;
- one gather takes the place of pad, transposition and split, another that of transposition and
  slice: of these operators ONNX Runtime's CPU provider runs only gathers on several cores;
- wide feed-forwards are convolutions (see `ConvFeedForward`);
- the neck normalises over the last axis, for which ONNX has one operator.

Letters beyond the package's: B the batch, (h, w) a stage's grid, D its width, A its attention
heads, d = D / A, T the tokens of a window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_refine.contract.tensors import MODEL_SIDE
from sam_refine_export.networks.sam_modules import SamModule
from sam_refine_export.networks.tiny_vit import (
    FeedForward,
    PatchMerging,
    Stage,
    TinyViT,
    WindowAttention,
    WindowBlock,
)

_WIDE: Final = 256
"""Feed-forwards wider than this are convolutions: at 320 ONNX Runtime takes a fifth less time for
those than for matrix products, at 128 and 160 the same."""


class RearrangedTinyViT(nn.Module):
    """Normalised RGB to embeddings, like `TinyViT`, for images of one size."""

    def __init__(self, network: TinyViT, side: int = MODEL_SIDE) -> None:
        """Take the parameters of `network`, which is not changed; images are `side` x `side`."""
        super().__init__()
        conv_stage, *window_stages = cast(Iterable[Stage], network.layers)
        self.conv_stages = nn.Sequential(network.patch_embed, conv_stage)
        grid = side // 8
        self.window_stages = nn.Sequential()
        for stage in window_stages:
            self.window_stages.append(WindowStage(stage, grid))
            if isinstance(stage.downsample, PatchMerging):
                grid //= stage.downsample.conv2.stride[0]
        self.neck = Neck(network.neck)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, side, side) to (B, 256, side / 16, side / 16), both float32."""
        y: Tensor = self.neck(self.window_stages(self.conv_stages(x)))
        return y


class WindowStage(nn.Module):
    """Blocks with window attention, then the step to the next stage."""

    def __init__(self, stage: Stage, grid: int) -> None:
        """Inputs are `grid` x `grid`."""
        super().__init__()
        blocks = list(cast(Iterable[WindowBlock], stage.blocks))
        self.windows = Windows(grid, blocks[0].window, blocks[0].attn.heads)
        self.blocks = nn.ModuleList(RearrangedBlock(block) for block in blocks)
        self.downsample = stage.downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to what `downsample` makes of that."""
        for block in self.blocks:
            x = block(x, self.windows)
        y: Tensor = self.downsample(x)
        return y


class Windows(nn.Module):
    """Where each token of a grid goes when it is cut into windows and attention heads."""

    query_rows: Tensor
    key_rows: Tensor
    value_rows: Tensor
    grid_rows: Tensor

    def __init__(self, grid: int, side: int, heads: int) -> None:
        """Windows of `side` x `side` on `grid` x `grid` tokens, padded on the right and below."""
        super().__init__()
        self.grid, self.heads, self.tokens = grid, heads, side**2
        count = -(-grid // side)  # of windows, along each side of the grid
        padding = grid**2  # the token behind those of the grid
        tokens = torch.full((count * side, count * side), padding)
        tokens[:grid, :grid] = torch.arange(grid**2).view(grid, grid)
        tokens = tokens.view(count, side, count, side).transpose(1, 2).reshape(-1, 1, side**2)
        rows = (tokens * heads + torch.arange(heads)[:, None]).flatten()  # (windows, A, T)
        self.register_buffer("query_rows", 3 * rows)
        self.register_buffer("key_rows", 3 * rows + 1)
        self.register_buffer("value_rows", 3 * rows + 2)
        self.register_buffer("grid_rows", torch.argsort(rows)[: padding * heads])

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, h w + 1, A 3 d), the last token being the padding, to three (B windows, A, T, d)."""
        width = qkv.shape[-1] // self.heads // 3
        rows = qkv.reshape(-1, qkv.shape[1] * self.heads * 3, width)

        def split(index: Tensor) -> Tensor:
            split = torch.index_select(rows, 1, index)
            return split.reshape(-1, self.heads, self.tokens, width)

        return split(self.query_rows), split(self.key_rows), split(self.value_rows)

    def join(self, x: Tensor) -> Tensor:
        """(B windows, A, T, d) to (B, h, w, D), without the padding."""
        width = x.shape[-1]
        rows = x.reshape(-1, len(self.query_rows), width)
        joined = torch.index_select(rows, 1, self.grid_rows)
        return joined.reshape(-1, self.grid, self.grid, self.heads * width)


class RearrangedAttention(nn.Module):
    """Window attention on a grid that is not padded.

    Without their biases, norm and projection turn zeros into zeros, so it makes no difference
    whether tokens are projected first or padded first. With biases b_q and b_k a query q weighs a
    key k by (q + b_q).(k + b_k): b_k adds the same for all keys and cancels in the softmax. The
    bias of the values passes through, as weights sum to one.
    """

    pair_bias: Tensor
    query_bias: Tensor

    def __init__(self, attention: WindowAttention) -> None:
        super().__init__()
        norm, qkv, proj = attention.norm, attention.qkv, attention.proj
        width, heads = norm.weight.shape[0], attention.heads
        qkv_weight = qkv.weight.detach().double()
        qkv_bias = qkv.bias.detach().double() + qkv_weight @ norm.bias.detach().double()
        by_head = torch.unflatten(qkv_weight, 0, (heads, 3, -1)).clone()
        query_bias, _, value_bias = torch.unflatten(qkv_bias, 0, (heads, 3, -1)).unbind(1)
        scale = (width // heads) ** -0.5
        by_head[:, 0] *= scale
        proj_weight = proj.weight.detach().double()
        proj_bias = proj.bias.detach().double() + proj_weight @ value_bias.flatten()
        self.norm = nn.LayerNorm(width, norm.eps, bias=False)
        self.norm.weight = norm.weight
        self.qkv = _linear(by_head.flatten(0, 2))
        self.proj = _linear(proj_weight, proj_bias)
        self.register_buffer("query_bias", (scale * query_bias[:, None]).float())
        self.register_buffer("pair_bias", attention.pair_bias.detach())

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """(B, h, w, D) to the same shape."""
        tokens = F.pad(self.norm(x).flatten(1, 2), (0, 0, 0, 1))  # (B, h w + 1, D)
        q, k, v = windows.split(self.qkv(tokens))  # each (B windows, A, T, d)
        weights = (q + self.query_bias) @ k.transpose(-2, -1) + self.pair_bias
        y: Tensor = self.proj(windows.join(torch.softmax(weights, dim=-1) @ v))
        return y


class RearrangedBlock(nn.Module):
    """Window attention, a depthwise convolution across window borders, a feed-forward."""

    def __init__(self, block: WindowBlock) -> None:
        super().__init__()
        self.attn = RearrangedAttention(block.attn)
        self.local_conv = block.local_conv
        is_wide = block.mlp.fc1.in_features > _WIDE
        self.mlp = ConvFeedForward(block.mlp) if is_wide else LinearFeedForward(block.mlp)

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """(B, D, h, w) to the same shape."""
        x = x.permute(0, 2, 3, 1)
        x = (x + self.attn(x, windows)).permute(0, 3, 1, 2)
        y: Tensor = self.mlp(self.local_conv(x))
        return y


class LinearFeedForward(nn.Module):
    """Widen by four and back; residual."""

    def __init__(self, mlp: FeedForward) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to the same shape."""
        x = x.permute(0, 2, 3, 1)
        y: Tensor = (x + self.mlp(x)).permute(0, 3, 1, 2)
        return y


class ConvFeedForward(nn.Module):
    """The same with convolutions, into which ONNX Runtime fuses bias and residual sum."""

    def __init__(self, mlp: FeedForward) -> None:
        super().__init__()
        self.norm = mlp.norm
        self.conv1 = _conv1x1(mlp.fc1)
        self.conv2 = _conv1x1(mlp.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to the same shape."""
        normalised = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y: Tensor = x + self.conv2(F.gelu(self.conv1(normalised)))
        return y


class Neck(nn.Module):
    """SAM's neck: two convolutions, each with a norm over the channels of a pixel."""

    def __init__(self, neck: nn.Sequential) -> None:
        super().__init__()
        conv1, norm1, conv2, norm2 = neck
        self.linear = _linear(cast(nn.Conv2d, conv1).weight.detach()[:, :, 0, 0])
        self.norm1 = _layer_norm(norm1)
        self.conv = conv2
        self.norm2 = _layer_norm(norm2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to (B, 256, h, w)."""
        x = self.norm1(self.linear(x.permute(0, 2, 3, 1)))
        x = self.conv(x.permute(0, 3, 1, 2))
        y: Tensor = self.norm2(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A float32 layer with these parameters: (out, in) and (out)."""
    width_out, width_in = weight.shape
    linear = nn.Linear(width_in, width_out, bias=bias is not None)
    linear.weight = nn.Parameter(weight.float())
    if bias is not None:
        linear.bias = nn.Parameter(bias.float())
    return linear


def _conv1x1(linear: nn.Linear) -> nn.Conv2d:
    """The convolution that does to every pixel what `linear` does to a vector."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
    conv.weight = nn.Parameter(linear.weight.detach()[:, :, None, None])
    conv.bias = linear.bias
    return conv


def _layer_norm(norm: SamModule) -> nn.LayerNorm:
    """segment-anything's LayerNorm2d, over the last axis instead of axis 1."""
    layer_norm = nn.LayerNorm(len(norm.weight), norm.eps)
    layer_norm.weight, layer_norm.bias = norm.weight, norm.bias
    return layer_norm
