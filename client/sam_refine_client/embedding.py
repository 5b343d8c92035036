"""SAM's embedding of an image, in memory and as a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt

from sam_refine.contract import EMBEDDING_SHAPE, InvalidRequestError
from sam_refine_client.decoding import decoding
from sam_refine_client.files.whole_files import write_whole

_RULE: Final = "{} must be a file that Embedding.save wrote"
_MOST_BYTES: Final = 4 * math.prod(EMBEDDING_SHAPE) + 2**16
"""Of a file that `save` wrote, unpacked: values and a little more."""


@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    """What SAM's encoder makes of an image; it serves to refine any number of maps of it.

    Use it with the networks that made it. Other networks accept it, but refine badly.
    """

    values: npt.NDArray[np.float32]
    """(1, 256, 64, 64)."""
    size_hw: tuple[int, int]
    """(H, W) of the image."""
    warnings: tuple[str, ...] = ()
    """What was doubtful about the image, and how it was taken; not in the file."""

    def __repr__(self) -> str:
        return f"<Embedding of an image of {self.size_hw[0]} x {self.size_hw[1]}>"

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a .npz file of `embedding` (1, 256, 64, 64) float32 and `image_size` (2,) int64.

        Returns its path; no suffix is added. If writing fails, a file that was there before stays
        as it was. Raises `OSError` if it cannot be written.
        """
        path, image_size = Path(path), np.array(self.size_hw, np.int64)
        write_whole(
            {path: lambda file: np.savez(file, embedding=self.values, image_size=image_size)}
        )
        return path

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Embedding:
        """Read what `save` wrote; never unpickles.

        Raises `InvalidRequestError` for any other file, and `OSError` if it cannot be read.
        """
        with Path(path).open("rb") as file, decoding(_RULE.format(path)):
            arrays = np.load(file, allow_pickle=False)  # unpacks nothing yet
            if isinstance(arrays, np.ndarray):
                raise _not_saved_embedding(path, "it is a single array")
            size_bytes = sum(entry.file_size for entry in arrays.zip.infolist())
            if size_bytes > _MOST_BYTES:
                raise _not_saved_embedding(
                    path, f"unpacked it must have at most {_MOST_BYTES} bytes, got {size_bytes}"
                )
            values, size_hw = arrays["embedding"], arrays["image_size"]
        if values.shape != (1, *EMBEDDING_SHAPE) or values.dtype != np.float32:
            raise _not_saved_embedding(path, f"its embedding is {values.shape} {values.dtype}")
        if not np.isfinite(values).all():
            raise _not_saved_embedding(path, "its embedding has values that are not finite")
        if size_hw.shape != (2,) or size_hw.dtype != np.int64 or size_hw.min() < 1:
            raise _not_saved_embedding(path, f"its image_size is {_shown(size_hw)}")
        height, width = size_hw.tolist()
        return cls(values, (height, width))


def is_embedding_file(path: Path) -> bool:
    """Whether a file has the arrays that `Embedding.save` writes; reads none. Raises `OSError`."""
    try:
        with ZipFile(path) as file:
            return {"embedding.npy", "image_size.npy"} <= set(file.namelist())
    except BadZipFile:
        return False


def _not_saved_embedding(path: str | PathLike[str], reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"{_RULE.format(path)}: {reason}")


def _shown(array: npt.NDArray[Any]) -> str:
    return f"{array.tolist()}" if array.size <= 2 else f"{array.shape} {array.dtype}"
