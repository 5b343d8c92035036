"""Class scores and other arrays from files. Nothing is ever unpickled."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from sam_refine.contract import InvalidRequestError
from sam_refine_client.reading.arrays import AnyArray, is_array, numpy_of

SCORE_SUFFIXES: Final = (".npy", ".npz", ".pt", ".pth", ".safetensors")
_NO_ARRAY: Final = (
    ValueError,
    TypeError,
    OverflowError,
    EOFError,
    SyntaxError,
    MemoryError,
    RuntimeError,
    NotImplementedError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise of bytes that are damaged, or are something else."""
_LARGEST_SCALE: Final = 64
"""How many times as large as its file an array may be that is packed."""
_SMALL_BYTES: Final = 2**28


def load_array(path: Path) -> Any:
    """The array in a file: .npy, .npz of one array, .pt or .pth of tensors, .safetensors of one.

    A dict in a .pt is given as it is, for who knows what to take of it. Raises
    `InvalidRequestError` where there is none, or more than one, and `OSError` for a file that
    cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in (".pt", ".pth"):
        return _of_torch(path)
    if suffix == ".safetensors":
        return _of_safetensors(path)
    with path.open("rb") as file:
        return _of_numpy(str(path), file)


def array_in(content: bytes, name: str) -> AnyArray:
    """The array in the content of a .npy, or a .npz of one array; `name` is for the error.

    Raises `InvalidRequestError` as `load_array` does.
    """
    return _of_numpy(name, io.BytesIO(content))


def _of_numpy(name: str, file: BinaryIO) -> AnyArray:
    try:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        return _only_one(name, found.files, found)
    except InvalidRequestError:
        raise
    except _NO_ARRAY as error:
        hint = ""
        if "allow_pickle" in str(error):
            hint = "; it holds objects: save array.astype(np.float32)"
        raise InvalidRequestError(
            f"{name} must be a .npy file of numbers, or .npz, .pt or .safetensors: {error}{hint}"
        ) from error


def _only_one(path: Path | str, names: list[str], arrays: Any) -> AnyArray:
    if len(names) != 1:
        shapes = ", ".join(names) or "none"
        raise InvalidRequestError(
            f"{path} must have one array, got {len(names)}: {shapes}; save the one: "
            'np.save("scores.npy", arrays["..."])'
        )
    if isinstance(arrays, np.lib.npyio.NpzFile):
        (entry,) = arrays.zip.infolist()
        if entry.file_size > max(_SMALL_BYTES, _LARGEST_SCALE * entry.compress_size):
            raise InvalidRequestError(
                f"{path} must not unpack to so much: {entry.file_size} bytes of "
                f"{entry.compress_size}; save it as .npy"
            )
    array: AnyArray = arrays[names[0]]
    return array


def _of_torch(path: Path) -> Any:
    torch = _needed("torch", path)
    with path.open("rb"):  # its error names the file
        pass
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: pickle's, zipfile's, torch's own
        raise InvalidRequestError(
            f"{path} must be what torch.save wrote of a tensor, and nothing that runs code: "
            f"{' '.join(str(error).split())[:200]}; save the tensor alone: "
            "torch.save(logits.cpu(), path)"
        ) from error
    if isinstance(found, dict) and len(found) == 1:
        (found,) = found.values()
    if not (is_array(found) or isinstance(found, dict)):
        raise InvalidRequestError(
            f"{path} must have a tensor, got {type(found).__name__}; save the tensor alone"
        )
    return found


def _of_safetensors(path: Path) -> AnyArray:
    library = _needed("safetensors.numpy", path)
    with path.open("rb"):
        pass
    try:
        arrays = library.load_file(path)
    except Exception as error:  # of its own kind, which comes from Rust
        raise InvalidRequestError(f"{path} must be a .safetensors file: {error}") from error
    return numpy_of(str(path), _only_one(path, list(arrays), arrays))


def _needed(module: str, path: Path) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise InvalidRequestError(
            f"{path} needs {package} to be read, which is not installed: pip install {package}; "
            "or save it as .npy: np.save(path, logits.cpu().numpy())"
        ) from error
