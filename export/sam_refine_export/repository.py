"""A model repository ready to serve: this project's `model_repository` with graphs in place."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER
from sam_refine_export.errors import ExportError
from sam_refine_export.model_card import CARD_NAME, sha256

ENCODER_ONNX: Final = f"{SAM_IMAGE_ENCODER.name}/1/model.onnx"
DECODER_ONNX: Final = f"{SAM_MASK_DECODER.name}/1/model.onnx"
"""Where the graphs lie, relative to the repository."""


def template() -> Path:
    """The repository without graphs: inside this package if installed, else in the source tree."""
    package = Path(__file__).parent
    installed = package / "model_repository"
    return installed if installed.is_dir() else package.parents[1] / "model_repository"


def template_files() -> dict[str, Path]:
    """What is copied from the template, by its path in the repository."""
    root = template()
    return {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and path.name != ".gitkeep"
        and path.suffix != ".onnx"
        and "__pycache__" not in path.parts
    }


def files(repository: Path) -> dict[str, str]:
    """sha256 of every file of a repository but its card, by its path there.

    Byte code that Triton's Python stub leaves beside the models does not count.
    """
    return {
        path.relative_to(repository).as_posix(): sha256(path)
        for path in sorted(repository.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path != repository / CARD_NAME
    }


def recipe_sha256() -> str:
    """One checksum of what decides how a repository comes out: this package and the template."""
    recipe = hashlib.sha256()
    for path in [*sorted(Path(__file__).parent.glob("*.py")), *template_files().values()]:
        recipe.update(path.name.encode() + path.read_bytes())
    return recipe.hexdigest()


@contextmanager
def new_repository(output: Path) -> Iterator[Path]:
    """A copy of the template, still without graphs, that becomes `output` when the block ends.

    It lies beside `output`, so that moving it there is a rename; if the block raises, it is
    deleted. A repository that an export wrote earlier is replaced. Raises `ExportError` where
    `output` is anything else.
    """
    _require_replaceable(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        fresh = Path(scratch) / "new"
        for relative, source in template_files().items():
            target = fresh / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for graph in (ENCODER_ONNX, DECODER_ONNX):
            (fresh / graph).parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        _require_replaceable(output)  # the block may have taken minutes
        _swap(fresh, output, Path(scratch) / "old")


def _require_replaceable(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise ExportError(f"{output} exists and is no directory")
    if any(output.iterdir()) and not (output / CARD_NAME).is_file():
        raise ExportError(
            f"{output} is not empty and no export wrote it (it has no {CARD_NAME}); "
            "choose another directory or empty this one"
        )


def _swap(fresh: Path, output: Path, old: Path) -> None:
    """Put `fresh` where `output` is; if that fails or is interrupted `output` is what it was."""
    try:
        if output.exists():
            output.rename(old)
        fresh.rename(output)
    except BaseException:  # a KeyboardInterrupt too: `old` goes with the scratch directory
        if old.exists() and not output.exists():
            old.rename(output)
        raise
