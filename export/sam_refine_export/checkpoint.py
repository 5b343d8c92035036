"""Official SAM checkpoints (`sam_vit_b_01ec64.pth` and its like) to PyTorch networks."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from sam_refine_export.errors import ExportError
from sam_refine_export.networks import SamNetworks, load_state, new_sam


def load_checkpoint(model: str, checkpoint: Path) -> SamNetworks:
    """The networks of `model` (`vit_b`, `vit_l`, `vit_h`) with a checkpoint's parameters.

    Nothing but tensors is unpickled. Raises `ExportError` where the file cannot be read, holds
    something else, or does not fit the model.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ExportError(f"{checkpoint} cannot be read as a PyTorch checkpoint") from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ExportError(f"{checkpoint} holds no plain mapping of names to tensors")
    sam = new_sam(model)
    load_state(sam, state, checkpoint)
    return SamNetworks(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder).eval()
