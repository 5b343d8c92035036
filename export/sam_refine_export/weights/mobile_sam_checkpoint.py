"""Checkpoints of MobileSAM (`mobile_sam.pt` and its like), as read, to PyTorch networks.

A checkpoint holds the image encoder as it is trained: convolutions apart from their batch norms,
and one attention bias for every offset within a window rather than for every pair of positions. It
is first loaded into modules of that form and those names, so that errors name the checkpoint's own
keys, and then folded into `TinyViT`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_networks import (
    SamNetworks,
    State,
    load_state,
    new_mask_decoder,
    new_prompt_encoder,
)
from sam_refine_export.networks.tiny_vit import TinyViT, WindowAttention

_CLASSIFIER: Final = ("image_encoder.norm_head.", "image_encoder.head.")
"""TinyViT's image classifier: MobileSAM saves it and never runs it."""
_UNTRAINED_BUFFERS: Final = (".num_batches_tracked", ".attention_bias_idxs")
"""Saved or not, depending on the versions of PyTorch and TinyViT."""


def load_mobile_sam_checkpoint(state: State, checkpoint: Path) -> SamNetworks:
    """MobileSAM's networks with the parameters `state`, float32 and in evaluation mode.

    Raises `ExportError` where names or shapes do not fit; `checkpoint` is the file it names.
    """
    trained = MobileSam()
    buffers = {k: v for k, v in trained.state_dict().items() if k.endswith(_UNTRAINED_BUFFERS)}
    parameters = {k: v for k, v in state.items() if not k.startswith(_CLASSIFIER)}
    load_state(trained, {**buffers, **parameters}, checkpoint)
    _require_known_offsets(trained, checkpoint)

    image_encoder = TinyViT()
    load_state(image_encoder, trained.image_encoder.folded(), checkpoint)
    return SamNetworks(image_encoder, trained.prompt_encoder, trained.mask_decoder).eval()


class ConvBatchNorm(nn.Module):
    """What a convolution of `TinyViT` is folded from: one without bias, then a batch norm."""

    def __init__(self, folded: nn.Conv2d) -> None:
        super().__init__()
        width_in, width_out, side = folded.in_channels, folded.out_channels, folded.weight.shape[-1]
        self.c = nn.Conv2d(width_in, width_out, side, groups=folded.groups, bias=False)
        self.bn = nn.BatchNorm2d(width_out, eps=1e-5)

    def folded(self) -> dict[str, Tensor]:
        """The state of that convolution, worked out in float64."""
        state = {key: tensor.double() for key, tensor in self.state_dict().items()}
        scale = state["bn.weight"] / torch.sqrt(state["bn.running_var"] + self.bn.eps)
        weight = state["c.weight"] * scale[:, None, None, None]
        bias = state["bn.bias"] - state["bn.running_mean"] * scale
        return {"weight": weight.float(), "bias": bias.float()}


class OffsetAttention(nn.Module):
    """What a `WindowAttention` is folded from: pairs of positions at equal offsets share a bias."""

    def __init__(self, folded: WindowAttention) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = folded.norm, folded.qkv, folded.proj
        heads, tokens, _ = folded.pair_bias.shape
        self.attention_biases = nn.Parameter(torch.zeros(heads, tokens))
        self.attention_bias_idxs: Tensor
        self.register_buffer("attention_bias_idxs", offset_indices(math.isqrt(tokens)))

    def folded(self) -> dict[str, Tensor]:
        """The state of that `WindowAttention`."""
        state = self.state_dict()
        biases, indices = state.pop("attention_biases"), state.pop("attention_bias_idxs")
        return {**state, "pair_bias": biases[:, indices]}


class TrainedTinyViT(nn.Module):
    """The parameters of a `TinyViT` as they are trained; it holds them and computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        network = TinyViT()
        for name, module in list(network.named_modules()):
            if isinstance(module, WindowAttention):
                network.set_submodule(name, OffsetAttention(module))
            elif isinstance(module, nn.Conv2d) and module.bias is not None:
                # a bias is what folding leaves: the neck, without batch norms, has none
                network.set_submodule(name, ConvBatchNorm(module))
        self.patch_embed = nn.ModuleDict({"seq": network.patch_embed})
        self.layers = network.layers
        self.neck = network.neck

    def folded(self) -> dict[str, Tensor]:
        """The state of that `TinyViT`."""
        state: dict[str, Tensor] = dict(self.state_dict())
        for name, module in self.named_modules():
            if isinstance(module, (ConvBatchNorm, OffsetAttention)):
                for key in module.state_dict():
                    del state[f"{name}.{key}"]
                state |= {f"{name}.{key}": tensor for key, tensor in module.folded().items()}
        return {key.replace("patch_embed.seq.", "patch_embed."): v for key, v in state.items()}


class MobileSam(nn.Module):
    """All parameters of a MobileSAM checkpoint, by its names."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = TrainedTinyViT()
        self.prompt_encoder = new_prompt_encoder()
        self.mask_decoder = new_mask_decoder()


def offset_indices(side: int) -> Tensor:
    """Which attention bias belongs to each pair of positions: int64 (side**2, side**2).

    Positions count row by row. Biases are numbered by the offset between the two, rows first,
    whatever its sign.
    """
    rows, columns = torch.arange(side**2) // side, torch.arange(side**2) % side
    row_offsets = (rows[:, None] - rows).abs()
    column_offsets = (columns[:, None] - columns).abs()
    return row_offsets * side + column_offsets


def _require_known_offsets(trained: MobileSam, checkpoint: Path) -> None:
    """Refuse indices other than ours: they would mean another layout of the biases."""
    for name, module in trained.named_modules():
        if isinstance(module, OffsetAttention):
            indices = module.attention_bias_idxs
            if not torch.equal(indices, offset_indices(math.isqrt(len(indices)))):
                raise ExportError(
                    f"{checkpoint} does not fit MobileSAM: {name}.attention_bias_idxs lays the "
                    "attention biases out in another way"
                )
