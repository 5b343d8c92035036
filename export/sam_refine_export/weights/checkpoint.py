"""Checkpoint files (`sam_vit_b_01ec64.pth` and its like) to a network's tensors by name."""

from __future__ import annotations

import argparse
import pathlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_networks import State, few
from sam_refine_export.weights.files import is_safetensors, require_checkpoint
from sam_refine_export.weights.nesting import network_in

_Global: TypeAlias = Callable[..., Any]

_NUMBER: Final = cast(_Global, np.float64().__reduce__()[0])
"""What NumPy unpickles a number with; where it lies depends on NumPy's version."""
_PLAIN_VALUES: Final[list[_Global | tuple[_Global, str]]] = [
    argparse.Namespace,
    pathlib.PosixPath,
    (pathlib.PosixPath, "pathlib._local.PosixPath"),  # of Python 3.13
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
    (_NUMBER, "numpy.core.multiarray.scalar"),
    (_NUMBER, "numpy._core.multiarray.scalar"),
]
"""What training puts beside the tensors: options, paths, NumPy's numbers. They hold values only."""


def read_state(checkpoint: Path) -> State:
    """The tensors of the one network in a checkpoint file, by name (see `nesting.network_in`).

    Nothing but tensors and plain values is unpickled. Raises `ExportError` where the file cannot be
    read, is damaged, holds something else, or has values that float32 cannot hold.
    """
    require_checkpoint(checkpoint)
    content = _safetensors(checkpoint) if is_safetensors(checkpoint) else _pickled(checkpoint)
    state = network_in(content, checkpoint)
    _require_finite(state, checkpoint)
    return state


def _safetensors(checkpoint: Path) -> State:
    try:
        tensors: State = load_file(checkpoint)
    except (safetensors.SafetensorError, OSError) as error:
        raise ExportError(f"{checkpoint} cannot be read as a safetensors file: {error}") from error
    return tensors


def _pickled(checkpoint: Path) -> Any:
    with torch.serialization.safe_globals(_PLAIN_VALUES):
        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
            damaged = _damaged_record(checkpoint)
        except Exception as error:  # torch raises nearly anything, depending on where the damage is
            code = _code_in(checkpoint)
            if code:
                raise ExportError(f"{checkpoint} {_holds_code(code)}") from error
            raise ExportError(
                f"{checkpoint} cannot be read as a PyTorch checkpoint: it is damaged, is something "
                "else, or holds more than tensors and plain values"
            ) from error
    if damaged is not None:
        raise ExportError(f"{checkpoint} is damaged: its record {damaged} has another checksum")
    return content


def _code_in(checkpoint: Path) -> list[str]:
    """What reading the file would import and call beside tensors and plain values; runs nothing.

    Empty where that cannot be told, as of files from before PyTorch 1.6.
    """
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint))
    except Exception:  # as varied as those of `torch.load`
        return []


def _holds_code(names: list[str]) -> str:
    if any(name.startswith("ultralytics.") for name in names):
        return (
            "is a checkpoint of Ultralytics (YOLO, FastSAM), which is another network than SAM: "
            "give a checkpoint of SAM or MobileSAM"
        )
    return (
        f"holds code beside tensors, which is not run: {few(names)}. In the program that wrote it "
        "save the parameters alone: torch.save(model.state_dict(), 'sam.pth')"
    )


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


def _require_finite(state: State, checkpoint: Path) -> None:
    keys = [
        key
        for key, tensor in state.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all()
    ]
    if keys:
        raise ExportError(f"{checkpoint} has values that are not finite in float32: {few(keys)}")
