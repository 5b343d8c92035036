"""A SAM that is quickly traced."""

from __future__ import annotations

from torch import nn

from sam_refine_export.networks.sam_modules import build_sam


def build_small_sam(width: int = 32, heads: int = 2) -> nn.Module:
    """A SAM whose encoder has one windowed and one global block of a width; else of real size."""
    sam: nn.Module = build_sam._build_sam(
        encoder_embed_dim=width,
        encoder_depth=2,
        encoder_num_heads=heads,
        encoder_global_attn_indexes=[1],
    )
    return sam
