"""Class scores and other arrays from files. Nothing is ever unpickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from sam_refine.contract import InvalidRequestError
from sam_refine_client.decoding import decoding
from sam_refine_client.reading.arrays import AnyArray, check_no_queries, is_array, numpy_of
from sam_refine_client.reading.mistaken import FILE_HEAD, PICTURE_KINDS, kind_of_file

SCORE_SUFFIXES: Final = (".npy", ".npz", ".pt", ".pth", ".safetensors")
_LARGEST_SCALE: Final = 64
"""How many times as large as its file an array may be that is packed."""
_SMALL_BYTES: Final = 2**28
OF_NUMPY: Final = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")
"""How a .npy, a .npz and an empty .npz begin."""
_MOST_SHOWN: Final = 8
SCORE_NAMES: Final = (
    *("logits", "seg_logits", "out", "output", "scores", "score", "sem_seg", "softmax"),
    *("probabilities", "probs", "prob", "predictions", "prediction", "preds", "pred"),
)
"""What scores are called in files of several arrays."""
LABEL_NAMES: Final = ("labels", "label", "label_map", "mask", "masks", "segmentation", "seg", "gt")


def load_array(path: Path, names: Collection[str] = SCORE_NAMES) -> AnyArray:
    """The array in a .npy, .npz, .pt, .pth or .safetensors; of several the one of these `names`.

    Raises `InvalidRequestError` where there is none, or more than one, and `OSError` for a file
    that cannot be read.
    """
    # The error of opening it names the file; a pickle may hold a dict within itself.
    with path.open("rb") as file, decoding(f"{path} must have an array"):
        suffix = path.suffix.lower()
        if suffix in (".pt", ".pth"):
            return _array_in(str(path), _of_torch(path), names)
        if suffix == ".safetensors":
            return _array_in(str(path), _of_safetensors(path), names)
        return _of_numpy(str(path), file, names)


def array_in(content: bytes, name: str, names: Collection[str] = SCORE_NAMES) -> AnyArray:
    """The array in the content of a .npy or a .npz; `name` is for the error.

    Raises `InvalidRequestError` as `load_array` does.
    """
    return _of_numpy(name, io.BytesIO(content), names)


def _of_numpy(name: str, file: BinaryIO, names: Collection[str]) -> AnyArray:
    head = file.read(FILE_HEAD)
    file.seek(0)
    rule = f"{name} must be a .npy file of numbers, or .npz, .pt or .safetensors"
    if not head.startswith(OF_NUMPY) and (kind := kind_of_file(head)) is not None:
        hint = ""
        if kind in PICTURE_KINDS:
            hint = (
                "; if it has labels, give it as labels; if shares, save them: "
                "np.save('scores.npy', pixels / np.iinfo(pixels.dtype).max)"
            )
        elif kind in ("text", "JSON"):
            hint = "; save the array: np.save('scores.npy', array.astype(np.float32))"
        raise InvalidRequestError(f"{rule}, got {kind}{hint}")
    with decoding(rule, _advice(head)):
        found = np.load(file, allow_pickle=False)
        return found if isinstance(found, np.ndarray) else _array_in(name, found, names)


def _advice(head: bytes) -> str:
    """What to do where a file that begins so is no array of numbers."""
    if b"'descr': '|O'" in head:
        is_one = b"'shape': ()" in head
        return "; it holds objects: save " + (
            "the array in them: np.save('scores.npy', dict['...'])"
            if is_one
            else "array.astype(np.float32)"
        )
    if head.startswith(OF_NUMPY[0]):
        return "; is it cut short? copy it again"
    return "; of bare numbers save the array: np.save('scores.npy', np.fromfile(...))"


def _array_in(path: str, found: Any, names: Collection[str]) -> AnyArray:
    """What was loaded, or the only array in it, or of several the only one of these names."""
    if isinstance(found, list | tuple) and len(found) == 1:
        return _array_in(path, found[0], names)
    if is_array(found):
        return numpy_of(path, found)
    if not isinstance(found, Mapping):
        raise InvalidRequestError(
            f"{path} must have a tensor, got {_described(found)}; save the tensor alone"
        )
    keys = list(found)
    check_no_queries(path, dict.fromkeys(keys))
    known = keys if len(keys) == 1 else [key for key in keys if key in names]
    if len(known) != 1:
        shown = ", ".join(map(str, keys[:_MOST_SHOWN])) or "none"
        more = ", ..." if len(keys) > _MOST_SHOWN else ""
        raise InvalidRequestError(
            f"{path} must have one array, got {len(keys)}: {shown}{more}; save the one: "
            f'np.save("{"labels" if names is LABEL_NAMES else "scores"}.npy", arrays["..."])'
        )
    if isinstance(found, np.lib.npyio.NpzFile):
        of_array = (known[0], f"{known[0]}.npy")
        _check_packed(path, [each for each in found.zip.infolist() if each.filename in of_array])
    return _array_in(path, found[known[0]], names)


def _described(found: Any) -> str:
    kind = type(found).__name__
    return f"{kind} of {len(found)}" if isinstance(found, list | tuple) else kind


def _check_packed(path: str, entries: list[zipfile.ZipInfo]) -> None:
    """Raise `InvalidRequestError` for a few bytes of a zip that would fill the memory."""
    unpacked = sum(each.file_size for each in entries)
    packed = sum(each.compress_size for each in entries)
    if unpacked > max(_SMALL_BYTES, _LARGEST_SCALE * packed):
        raise InvalidRequestError(
            f"{path} must not unpack to so much: {unpacked} bytes of {packed}; save it as .npy"
        )


def _of_torch(path: Path) -> Any:
    torch = _needed("torch", path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_packed(str(path), archive.infolist())
    try:
        with torch.serialization.safe_globals(_numpy_values()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: pickle's, zipfile's, torch's own
        raise InvalidRequestError(
            f"{path} must be what torch.save wrote of a tensor, and nothing that runs code"
            f"{_instead(torch, path)}; save the tensor alone: torch.save(logits.cpu(), path)"
        ) from error


def _numpy_values() -> list[Any]:
    """What an array of numbers is unpickled with; it holds values only."""
    array, number = np.zeros(1).__reduce__()[0], np.float64().__reduce__()[0]
    values: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        values += [(array, f"{module}._reconstruct"), (number, f"{module}.scalar")]
    return values


def _instead(torch: Any, path: Path) -> str:
    """What a file has instead of a tensor."""
    with path.open("rb") as file:
        kind = kind_of_file(file.read(FILE_HEAD))
    if kind not in (None, "a zip archive") and not str(kind).startswith("a pickle"):
        return f": got {kind}"
    try:
        code = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # as varied as those of `torch.load`
        return ": it is damaged, or something else"
    return f": got {', '.join(code[:_MOST_SHOWN])}" if code else ": it is damaged"


def _of_safetensors(path: Path) -> Any:
    library = _needed("safetensors.numpy", path)
    with decoding(f"{path} must be a .safetensors file"):
        return library.load_file(path)


def _needed(module: str, path: Path) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise InvalidRequestError(
            f"{path} needs {package} to be read, which is not installed: pip install {package}; "
            "or save it as .npy: np.save(path, logits.cpu().numpy())"
        ) from error
