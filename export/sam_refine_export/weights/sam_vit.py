"""Checkpoints of a SAM with a plain ViT, named tensors as read, to PyTorch networks."""

from __future__ import annotations

from pathlib import Path

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_networks import SamNetworks, State, few, load_state, new_sam


def is_sam_vit(size: str, state: State) -> bool:
    """Whether names and shapes are those of a size, `vit_b`, `vit_l` or `vit_h`."""
    expected = new_sam(size).state_dict()
    return {key: tensor.shape for key, tensor in state.items()} == {
        key: tensor.shape for key, tensor in expected.items()
    }


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
