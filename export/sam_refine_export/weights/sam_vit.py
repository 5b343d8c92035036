"""Checkpoints of a SAM with a plain ViT, named tensors as read, to PyTorch networks."""

from __future__ import annotations

from pathlib import Path

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_networks import SamNetworks, State, few, load_state, new_sam


def is_sam_vit(size: str, state: State) -> bool:
    """Whether the image encoder is of a size, `vit_b`, `vit_l` or `vit_h`: its width and depth."""
    return _width_and_depth(state) == _width_and_depth(new_sam(size).state_dict())


def _width_and_depth(state: State) -> tuple[int, int]:
    """Of a plain ViT: what the neck takes, and how many blocks there are; 0 where that is none."""
    neck = state.get("image_encoder.neck.0.weight")
    blocks = {name.split(".")[2] for name in state if name.startswith("image_encoder.blocks.")}
    return 0 if neck is None or neck.ndim != 4 else neck.shape[1], len(blocks)


def load_sam_vit(size: str, state: State, checkpoint: Path) -> SamNetworks:
    """The networks of a size with the parameters `state`, in evaluation mode.

    Parameters of any floating dtype become float32. Raises `ExportError` where one has another
    dtype, and where names or shapes do not fit; `checkpoint` is the file it names.
    """
    _require_floating(state, checkpoint)
    sam = new_sam(size)
    load_state(sam, state, checkpoint)
    return SamNetworks(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder).eval()


def _require_floating(state: State, checkpoint: Path) -> None:
    keys = [
        f"{key} {str(tensor.dtype).removeprefix('torch.')}"
        for key, tensor in state.items()
        if not tensor.is_floating_point()
    ]
    if keys:
        raise ExportError(f"{checkpoint} has parameters that are not floating-point: {few(keys)}")
