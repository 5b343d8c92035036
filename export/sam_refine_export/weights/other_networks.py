"""Networks that people take for a SAM, or of which they have a part: said by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_networks import State, few


@dataclass(frozen=True)
class _OtherNetwork:
    """A network that is no plain SAM, known by names of parameters that only it has."""

    name: str
    """A regular expression that is found in such a name."""
    kind: str
    """What a file with it is."""
    advice: str
    """What to do instead."""


_PUBLISHED: Final = "export a published one (--model vit_b --download), or give a checkpoint of SAM"

_OTHERS: Final = (
    _OtherNetwork(
        r"(^|[._])lora_|(^|\.)w_[ab]_\d+$|(^|\.)linear_[ab]_[qkv]\.|\.(hada|lokr)_",
        "holds weights of LoRA, which change a SAM and are none by themselves",
        "merge them into the SAM that they were trained on (in peft: merge_and_unload()), then "
        "torch.save(model.state_dict(), 'sam.pth')",
    ),
    _OtherNetwork(
        r"(^|\.)(hf_token|hq_token|hf_mlp|hq_mask_mlp)\.",
        "is HQ-SAM, whose decoder takes features of the encoder that these graphs do not give it",
        "export the SAM that it was trained on, whose encoder it has: --download with --model "
        "vit_b, vit_l or vit_h, or for Light HQ-SAM --model mobile",
    ),
    _OtherNetwork(
        r"^(detector|detector_model|detr_encoder|detr_decoder|geometry_encoder|tracker_model)\.|"
        r"\.neck\.fpn_layers\.|(^|\.)backbone\.vision_backbone\.",
        "is SAM 3, another network than SAM",
        _PUBLISHED,
    ),
    _OtherNetwork(
        r"^image_encoder\.trunk\.|^sam_(mask_decoder|prompt_encoder)\.|(^|\.)memory_attention\.|"
        r"^vision_encoder\.backbone\.|^mask_decoder\.(pred_)?obj_score_",
        "is SAM 2 (or 2.1), another network than SAM",
        _PUBLISHED,
    ),
    _OtherNetwork(
        r"^prompt_encoder\.(bbox_top_left_embeddings|invalid_points)\.",
        "is EfficientSAM, another network than SAM",
        "export MobileSAM, which is as small (--model mobile), or give a checkpoint of SAM",
    ),
    _OtherNetwork(
        r"^image_encoder\.backbone\.(stages|input_stem)\.",
        "is EfficientViT-SAM, or a MobileSAMv2 with its encoder, another network than SAM",
        "export MobileSAM, which is as small (--model mobile), or give a checkpoint of SAM",
    ),
    _OtherNetwork(
        r"^image_encoder\.(backbone\.)?features\.",
        "is EdgeSAM or RepViT-SAM, whose encoder is another network than SAM's",
        "export MobileSAM, which is as small (--model mobile), or give a checkpoint of SAM",
    ),
    _OtherNetwork(
        r"(?i)adapter|(^|\.)prompt_generator\.",
        "is a SAM with adapters, layers that SAM does not have",
        _PUBLISHED,
    ),
    _OtherNetwork(
        r"^(model\.)*\d+\.(cv\d|conv|m)\.",
        "is a YOLO (FastSAM is one), another network than SAM",
        _PUBLISHED,
    ),
)

_DECODER_NAMES: Final = ("iou_token.weight", "mask_tokens.weight")
_ENCODER_NAMES: Final = ("neck.0.weight", "neck.conv1.weight")
"""As a part's own `state_dict` has them; a ViT without SAM's neck is no part of a SAM."""
_SIZE: Final = 1024
_PATCH: Final = 16
"""Pixels: the images that SAM takes, and the side of the patches of its ViT."""


def require_sam(state: State, checkpoint: Path) -> None:
    """Raise `ExportError` where tensors are not those of a whole SAM for images of its size.

    It says what else they are, where that is known, and what to do. Whether every name and shape
    fits is not looked at.
    """
    kind = _other_kind(state)
    if kind is not None:
        raise ExportError(f"{checkpoint} {kind}")


def _other_kind(state: State) -> str | None:
    for other in _OTHERS:
        telling = [name for name in state if re.search(other.name, name)]
        if telling:
            return f"{other.kind} ({few(telling)}): {other.advice}"
    return _part_only(state) or _other_size(state)


def _part_only(state: State) -> str | None:
    """What is there of a SAM where that is not all of it."""
    has_encoder = _has(state, "image_encoder", _ENCODER_NAMES)
    has_decoder = _has(state, "mask_decoder", _DECODER_NAMES)
    has_prompts = any(name.startswith("prompt_encoder.") for name in state)
    if has_encoder and has_decoder and has_prompts:
        return None
    if not (has_encoder or has_decoder or has_prompts):
        return (
            f"has no SAM in it: {few(list(state))}. Give a checkpoint whose names are "
            "segment-anything's (image_encoder..., mask_decoder...) or those of transformers' "
            "SamModel"
        )
    found = {
        "image encoder": has_encoder,
        "prompt encoder": has_prompts,
        "mask decoder": has_decoder,
    }
    parts = " and ".join(part for part, is_there in found.items() if is_there)
    rest = " and ".join(part for part, is_there in found.items() if not is_there)
    return (
        f"holds SAM's {parts} only, no {rest}: put it into the SAM that it was trained with, "
        "model.load_state_dict(part, strict=False), then torch.save(model.state_dict(), 'sam.pth')"
    )


def _has(state: State, part: str, own_names: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{part}.") or name in own_names for name in state)


def _other_size(state: State) -> str | None:
    positions = state.get("image_encoder.pos_embed")
    if positions is None or positions.ndim != 4 or positions.shape[1:3] == (64, 64):
        return None
    height, width = (side * _PATCH for side in positions.shape[1:3])
    size = str(height) if height == width else f"{height} x {width}"
    return (
        f"is a SAM for images of {size} pixels (image_encoder.pos_embed is "
        f"{tuple(positions.shape)}): these graphs take {_SIZE}; give one that was trained at "
        f"{_SIZE}"
    )
