"""What is read from files and written to them."""

from __future__ import annotations

import json
import shutil
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError

if TYPE_CHECKING:
    from sam_refine_client import Embedding, RefineResult

LABELS: Final = "labels.png"
"""Of a result's files the one that appears last: where it is, all are."""
_LABEL_MODES: Final = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")


def load_array(path: Path) -> npt.NDArray[Any]:
    """A .npy file; raises `InvalidRequestError` where it is none (never unpickles)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, MemoryError, tokenize.TokenError) as error:
        raise InvalidRequestError(f"{path} must be a .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidRequestError(f"{path} must be a .npy file, got an archive of arrays")
    return array


def load_labels(path: Path) -> npt.NDArray[Any]:
    """Labels (H, W) as .npy, or as a PNG with a palette or in grey whose pixel values they are.

    Raises `InvalidRequestError` where the file is neither, `OSError` where it cannot be read.
    """
    if path.suffix.lower() != ".png":
        return load_array(path)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.mode not in _LABEL_MODES:
                raise InvalidRequestError(
                    f"{path} must have a palette or be grey, its pixel values are the labels; got "
                    f"the mode {picture.mode}"
                )
            return np.asarray(picture).astype(np.int32)
    except (SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InvalidRequestError(f"{path} must be a PNG: {error}") from error


def load_embedding(path: Path) -> Embedding:
    """What `save_embedding` wrote; raises `InvalidRequestError` where it is something else."""
    from sam_refine_client import Embedding

    try:
        with np.load(path, allow_pickle=False) as arrays:
            height, width = arrays["size_hw"].tolist()
            return Embedding(arrays["values"], (height, width))
    except (ValueError, KeyError, EOFError, TypeError, AttributeError) as error:
        raise InvalidRequestError(
            f"{path} must be an embedding that `sam-refine embed` wrote"
        ) from error


def save_embedding(embedding: Embedding, path: Path) -> None:
    """Write an embedding as .npz, under its name only when it is whole."""
    with whole_files(path.parent, path.name) as directory:
        values, size_hw = embedding.values, np.array(embedding.size_hw, np.int64)
        np.savez(directory / path.name, values=values, size_hw=size_hw)


def save_result(result: RefineResult, image: Path, out: Path, *, has_picture: bool) -> list[Path]:
    """`write_result`, each file under its name only when all are whole; returns their paths."""
    with whole_files(out, LABELS) as directory:
        paths = write_result(result, image, directory, has_picture=has_picture)
    return [out / path.name for path in paths]


@contextmanager
def whole_files(out: Path, last: str) -> Iterator[Path]:
    """A directory whose files go to `out` as the block ends well, that of the name `last` last.

    Where the block fails or is interrupted nothing changes in `out`; where the process is killed
    the next one clears away what it left.
    """
    directory = out / f".{last}.partial"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        yield directory
        for path in sorted(directory.iterdir(), key=lambda path: path.name == last):
            path.replace(out / path.name)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write_result(
    result: RefineResult,
    image: Path,
    out: Path,
    class_names: list[str] | None = None,
    palette: npt.NDArray[np.uint8] | None = None,
    *,
    has_picture: bool = True,
) -> list[Path]:
    """Write labels.png, regions.json and, if wanted, before_after.png; returns their paths.

    `result` has labels, coarse labels and regions.
    """
    from PIL import Image

    from sam_refine_client.pictures import before_after, save_label_png

    assert result.labels is not None
    assert result.coarse_labels is not None
    out.mkdir(parents=True, exist_ok=True)
    labels_png, regions_json, picture_png = (
        out / name for name in (LABELS, "regions.json", "before_after.png")
    )
    save_label_png(result.labels, labels_png, palette)
    regions = [asdict(region) for region in result.regions or ()]
    regions_json.write_text(json.dumps(regions, indent=1) + "\n", encoding="utf-8")
    if not has_picture:
        return [labels_png, regions_json]
    with Image.open(image) as photo:
        picture = before_after(
            np.asarray(photo.convert("RGB")),
            result.coarse_labels,
            result.labels,
            class_names,
            palette,
        )
    picture.save(picture_png)
    return [labels_png, regions_json, picture_png]
