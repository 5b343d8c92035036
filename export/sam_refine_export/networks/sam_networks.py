"""The three networks of a SAM as PyTorch modules, and loading parameters into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_modules import SamModule, build_sam, modeling

State = Mapping[str, Tensor]
"""Parameters and buffers by name, as `state_dict` has them."""

PIXEL_MEAN: Final = (123.675, 116.28, 103.53)
PIXEL_STD: Final = (58.395, 57.12, 57.375)
"""Per channel of RGB in 0 to 255, as every SAM was trained (segment-anything build_sam.py)."""

_KEYS_IN_A_MESSAGE = 5


@dataclass(frozen=True)
class SamNetworks:
    """A SAM in parts; `prompt_encoder` and `mask_decoder` are segment-anything's own classes."""

    image_encoder: nn.Module
    """Normalised RGB (B, 3, 1024, 1024) to embeddings (B, 256, 64, 64)."""
    prompt_encoder: SamModule
    mask_decoder: SamModule

    def eval(self) -> SamNetworks:
        """The same networks, switched to evaluation mode."""
        for network in (self.image_encoder, self.prompt_encoder, self.mask_decoder):
            network.eval()
        return self


def new_sam(model: str) -> SamModule:
    """segment-anything's `Sam` of `vit_b`, `vit_l` or `vit_h`, its parameters on `meta`."""
    with torch.device("meta"):
        return build_sam.sam_model_registry[model]()


def new_prompt_encoder() -> SamModule:
    """segment-anything's `PromptEncoder` in the size that every SAM has; random parameters."""
    return modeling.PromptEncoder(
        embed_dim=256,
        image_embedding_size=(64, 64),
        input_image_size=(1024, 1024),
        mask_in_chans=16,
    )


def new_mask_decoder() -> SamModule:
    """segment-anything's `MaskDecoder` in the size that every SAM has; random parameters."""
    return modeling.MaskDecoder(
        num_multimask_outputs=3,
        transformer=modeling.TwoWayTransformer(
            depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8
        ),
        transformer_dim=256,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )


def load_state(network: nn.Module, state: State, source: Path) -> None:
    """Put `state` into `network`, in the network's own dtypes; every key must fit.

    Raises `ExportError` naming the keys that are missing, unknown or of another shape.
    """
    expected = network.state_dict()
    problems = {
        "missing": [key for key in expected if key not in state],
        "unknown": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
            for key, tensor in expected.items()
            if key in state and state[key].shape != tensor.shape
        ],
    }
    listed = "; ".join(f"{kind}: {few(keys)}" for kind, keys in problems.items() if keys)
    if listed:
        raise ExportError(f"{source} does not fit {type(network).__name__}: {listed}")
    # assigned, not copied: a network on `meta` has no memory to copy to, and vit_h fills gigabytes
    network.load_state_dict(
        {key: state[key].to(tensor.dtype) for key, tensor in expected.items()}, assign=True
    )


def few(keys: list[str]) -> str:
    """The first keys, and how many more there are."""
    shown = ", ".join(keys[:_KEYS_IN_A_MESSAGE])
    rest = len(keys) - _KEYS_IN_A_MESSAGE
    return f"{shown} and {rest} more" if rest > 0 else shown
