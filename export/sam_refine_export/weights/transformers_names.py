"""Names of parameters in transformers' `SamModel`, to segment-anything's.

The network is the same; what differs is how modules are called. Where segment-anything numbers the
layers of a sequence, transformers gives each a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_networks import State

_PROCESSOR: Final = "preprocessor_config.json"
_POSITIONS: Final = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"

_MODULES: Final[Mapping[str, str]] = {
    r"vision_encoder\.pos_embed": "image_encoder.pos_embed",
    r"vision_encoder\.patch_embed\.projection": "image_encoder.patch_embed.proj",
    r"vision_encoder\.layers\.(\d+)\.layer_norm(\d)": r"image_encoder.blocks.\1.norm\2",
    r"vision_encoder\.layers\.(\d+)\.(attn|mlp)": r"image_encoder.blocks.\1.\2",
    r"vision_encoder\.neck\.conv1": "image_encoder.neck.0",
    r"vision_encoder\.neck\.layer_norm1": "image_encoder.neck.1",
    r"vision_encoder\.neck\.conv2": "image_encoder.neck.2",
    r"vision_encoder\.neck\.layer_norm2": "image_encoder.neck.3",
    r"shared_image_embedding\.positional_embedding": _POSITIONS,
    r"prompt_encoder\.shared_embedding\.positional_embedding": _POSITIONS,
    r"prompt_encoder\.point_embed": "prompt_encoder.point_embeddings",
    r"prompt_encoder\.mask_embed\.conv1": "prompt_encoder.mask_downscaling.0",
    r"prompt_encoder\.mask_embed\.layer_norm1": "prompt_encoder.mask_downscaling.1",
    r"prompt_encoder\.mask_embed\.conv2": "prompt_encoder.mask_downscaling.3",
    r"prompt_encoder\.mask_embed\.layer_norm2": "prompt_encoder.mask_downscaling.4",
    r"prompt_encoder\.mask_embed\.conv3": "prompt_encoder.mask_downscaling.6",
    r"mask_decoder\.transformer\.layers\.(\d+)\.layer_norm(\d)": (
        r"mask_decoder.transformer.layers.\1.norm\2"
    ),
    r"mask_decoder\.transformer\.layer_norm_final_attn": "mask_decoder.transformer.norm_final_attn",
    r"mask_decoder\.upscale_conv1": "mask_decoder.output_upscaling.0",
    r"mask_decoder\.upscale_layer_norm": "mask_decoder.output_upscaling.1",
    r"mask_decoder\.upscale_conv2": "mask_decoder.output_upscaling.3",
    # the three layers of an MLP
    r"mask_decoder\.(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.proj_in": (
        r"mask_decoder.\1.layers.0"
    ),
    r"mask_decoder\.(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.0": (
        r"mask_decoder.\1.layers.1"
    ),
    r"mask_decoder\.(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.proj_out": (
        r"mask_decoder.\1.layers.2"
    ),
}
"""How the names of modules begin, and what stands there in segment-anything's. Names that begin in
no such way are the same in both."""


def is_of_transformers(state: State) -> bool:
    """Whether names are those of `SamModel`, or of a part of it."""
    return any(
        name.startswith(("vision_encoder.", "shared_image_embedding.", "mask_decoder.upscale_conv"))
        for name in state
    )


def sam_names(state: State, checkpoint: Path) -> State:
    """The tensors of a `SamModel` by segment-anything's names; unknown names stay as they are.

    `SamModel` has the matrix of positions twice and saves it once or twice. Raises `ExportError`
    where the two differ.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = _renamed(name)
        if new in renamed and not torch.equal(renamed[new], tensor):
            raise ExportError(
                f"{checkpoint} has two different tensors for {new}, which SAM has once: {name} and "
                "its twin"
            )
        renamed[new] = tensor
    return renamed


def pixels_beside(checkpoint: Path) -> State:
    """`pixel_mean` and `pixel_std` of the `SamProcessor` that was saved with the model.

    Scaled from its 0 to 1 to SAM's 0 to 255. Empty where there is none that says so.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        settings = json.loads(checkpoint.with_name(_PROCESSOR).read_text(encoding="utf-8"))
        pixels = {"pixel_mean": settings["image_mean"], "pixel_std": settings["image_std"]}
        return {name: 255 * torch.tensor(value) for name, value in pixels.items()}
    return {}


def _renamed(name: str) -> str:
    for old, new in _MODULES.items():
        replaced, count = re.subn(rf"^{old}(?=\.|$)", new, name)
        if count:
            return replaced
    return name
