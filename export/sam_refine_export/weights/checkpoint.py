"""Checkpoint files (`sam_vit_b_01ec64.pth` and its like) to named tensors."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_networks import State, few


def read_state(checkpoint: Path) -> State:
    """The tensors of a checkpoint file, by name; nothing but tensors is unpickled.

    Raises `ExportError` where the file cannot be read, is damaged, holds something else, or has
    values that float32 cannot hold.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        damaged = _damaged_record(checkpoint)
    except Exception as error:  # torch raises nearly anything, depending on where the damage is
        raise ExportError(f"{checkpoint} cannot be read as a PyTorch checkpoint") from error
    if damaged is not None:
        raise ExportError(f"{checkpoint} is damaged: its record {damaged} has another checksum")
    if not isinstance(state, dict) or not all(map(_is_named_tensor, state.items())):
        raise ExportError(f"{checkpoint} holds no plain mapping of names to tensors")
    _require_finite(state, checkpoint)
    return state


def _damaged_record(checkpoint: Path) -> str | None:
    """The first record whose CRC-32 is not the one that was saved with it; torch does not check.

    Files from before PyTorch 1.6 are not zip archives and have no checksums.
    """
    if not zipfile.is_zipfile(checkpoint):
        return None
    with zipfile.ZipFile(checkpoint) as archive:
        for record in archive.infolist():
            # torch writes 0 if it was told not to compute them
            if record.CRC != 0 and not _is_intact(archive, record):
                return record.filename
    return None


def _is_intact(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(record) as file:
            while file.read(1 << 20):
                pass  # reading the last block raises if the checksum differs
    except zipfile.BadZipFile:
        return False
    return True


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    """Whether it is a name and a dense tensor with values; one saved on `meta` has none."""
    name, value = item
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
    )


def _require_finite(state: State, checkpoint: Path) -> None:
    keys = [
        key
        for key, tensor in state.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all()
    ]
    if keys:
        raise ExportError(f"{checkpoint} has values that are not finite in float32: {few(keys)}")
