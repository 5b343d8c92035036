"""The repository without graphs that every export starts from: the project's `model_repository`."""

from __future__ import annotations

from pathlib import Path

from sam_refine.contract import MODELS


def template() -> Path:
    """Where it lies: inside this package if that is installed, else in the source tree."""
    package = Path(__file__).parents[1]
    installed = package / "model_repository"
    return installed if installed.is_dir() else package.parents[1] / "model_repository"


def template_files() -> dict[str, Path]:
    """What an export copies from the template, by its path in the repository."""
    root = template()
    return {
        path.relative_to(root).as_posix(): path
        for model in MODELS
        for path in sorted((root / model.name).rglob("*"))
        if path.is_file()
        and path.name != ".gitkeep"
        and path.suffix != ".onnx"
        and "__pycache__" not in path.parts
    }
