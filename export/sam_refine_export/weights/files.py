"""Which file a checkpoint is, and what a file is that is none; imports no torch."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Final

from sam_refine_export.errors import ExportError

_OF_TRANSFORMERS: Final = ("model.safetensors", "pytorch_model.bin")
"""What `save_pretrained` calls a network's parameters; a trainer's own files may lie beside it."""
_INDEX: Final = ".index.json"
_PIECES: Final = tuple(f"{name}{_INDEX}" for name in _OF_TRANSFORMERS)
_PIECE: Final = re.compile(r"-\d{5}-of-\d{5}\.")
_WHOLE: Final = (
    "load it with transformers and save it whole, save_pretrained(..., max_shard_size='20GB')"
)
_SUFFIXES: Final = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")
_ZIP: Final = b"PK\x03\x04"
_HEAD_BYTES: Final = 1024
_OTHER_FORMATS: Final = {b"\x89HDF\r\n": "HDF5 (Keras)", b"GGUF": "GGUF", b"ggml": "GGML"}
_TEXT: Final = frozenset(b"\t\n\r" + bytes(range(32, 127)))


def checkpoint_file(path: Path) -> Path:
    """`path` where that is a file; of a folder, the one checkpoint in it.

    That is what transformers' `save_pretrained` writes, or else the only file that is named like a
    checkpoint. Raises `ExportError` where there is none, or more than one.
    """
    if path.is_file():
        if path.name.endswith(_INDEX) or _PIECE.search(path.name):
            raise ExportError(f"{path} is one of several pieces of a checkpoint: {_WHOLE}")
        return path
    if not path.is_dir():
        raise ExportError(f"the checkpoint {path} is neither a file nor a folder")
    for name in _OF_TRANSFORMERS:
        if (path / name).is_file():
            return path / name
    for name in _PIECES:
        if (path / name).is_file():
            raise ExportError(f"the checkpoint in {path} is in several pieces ({name}): {_WHOLE}")
    found = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in _SUFFIXES)
    if len(found) == 1:
        return path / found[0]
    if not found:
        raise ExportError(
            f"the folder {path} holds no checkpoint: no {_OF_TRANSFORMERS[0]}, and no file that "
            f"ends in {', '.join(_SUFFIXES)}"
        )
    raise ExportError(f"the folder {path} holds several checkpoints, name one: {', '.join(found)}")


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as such files do: a length, then JSON; or is named so, and no zip."""
    head = _head(path)
    return head[8:10] == b'{"' or (
        path.suffix.lower() == ".safetensors" and not head.startswith(_ZIP)
    )


def require_checkpoint(path: Path) -> None:
    """Raise `ExportError` for a file that is something else, as its first bytes tell.

    A file that passes may still be none.
    """
    kind = _other_kind(path, _head(path))
    if kind is not None:
        raise ExportError(f"{path} {kind}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _other_kind(path: Path, head: bytes) -> str | None:
    """What it is, and what to do, to go behind its name; None where it may be a checkpoint."""
    if not head:
        return "is empty: perhaps a download that failed; fetch it again"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return (
            "is a Git LFS pointer, a line of text that stands for the weights: run `git lfs pull` "
            "where it was cloned"
        )
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return (
            "is a web page, no checkpoint: the download gave a page to look at; take the link to "
            "the file itself"
        )
    if head.startswith(_ZIP):
        return _other_zip(path)
    if path.suffix == ".onnx" or (head[:1] == b"\x08" and head[2:3] == b"\x12"):
        return (
            "is an ONNX graph, which cannot be taken apart again: give the PyTorch checkpoint that "
            "it was made of"
        )
    for start, kind in _OTHER_FORMATS.items():
        if head.startswith(start):
            return f"is {kind}, no PyTorch checkpoint: give the one that it was made of"
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "is an archive: unpack it and give the checkpoint in it"
    if _TEXT.issuperset(head):
        return "is text, no checkpoint"
    return None


def _other_zip(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return "is cut short: its end is missing; fetch or copy it again"
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    if "constants.pkl" in names:
        return (
            "is TorchScript, which holds code: save the parameters alone, "
            "torch.save(torch.jit.load(...).state_dict(), 'sam.pth')"
        )
    if "data.pkl" not in names:
        return "is a zip archive, no PyTorch checkpoint: unpack it if there is one in it"
    return None
