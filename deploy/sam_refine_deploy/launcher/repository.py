"""Checks a model repository first, because a server takes seconds to find the same faults.

And gives it a path that Triton can use, where its own has a space, a quote or a letter with an
accent: the Python backend hands paths to a shell, unquoted.
"""

from __future__ import annotations

import re
from pathlib import Path

from sam_refine.contract import MODELS, SAM_MASK_JUDGE
from sam_refine_deploy.errors import ServeError
from sam_refine_deploy.launcher.run_directory import RunDirectory, is_plain

_BACKEND = re.compile(r'^\s*(?:backend|platform)\s*:\s*"([^"]*)"', re.MULTILINE)
_MODEL_FILES = {"python": "model.py", "onnxruntime": "model.onnx", "onnxruntime_onnx": "model.onnx"}
_TENSORS = re.compile(r"^\s*(input|output)\s*:?\s*[\[{]", re.MULTILINE)
_OWN_MODELS = {model.name for model in (*MODELS, SAM_MASK_JUDGE)}
_MODEL_FILENAME = re.compile(r'^\s*default_model_filename\s*:\s*"([^"]+)"', re.MULTILINE)


def check_repository(repository: Path) -> None:
    """Check that every model of the contract has its files; the server judges what is in them.

    Raises one `ServeError` that names everything that is missing.
    """
    if not repository.is_dir():
        raise ServeError(
            f"there is no model repository at {repository}; `sam-refine export` makes one"
        )
    missing = [name for model in MODELS for name in _missing_files(repository, model.name)]
    if missing:
        raise ServeError(
            f"the model repository {repository} lacks {', '.join(missing)}; "
            "`sam-refine export` makes a complete one"
        )


def is_complete(repository: Path) -> bool:
    """Whether every configuration says all that Triton asks for.

    Those of the contract's models do, as long as they name their tensors. Of any other model only a
    process of its own would know: Triton starts one for each model, to complete what is missing.
    """
    folders = [path for path in repository.iterdir() if path.is_dir()]
    return all(folder.name in _OWN_MODELS and _names_tensors(folder) for folder in folders)


def usable_path(repository: Path, run: RunDirectory) -> Path:
    """The repository's own path, or that of its likeness in the run's folder: links to its files.

    Raises `ServeError` where a file in it has a name that will not do either.
    """
    real = repository.resolve()
    if is_plain(real):
        return real
    likeness = run.path / "models"
    for path in sorted(real.rglob("*")):
        relative = path.relative_to(real)
        if "__pycache__" in relative.parts:
            continue
        if not is_plain(relative):
            raise ServeError(
                "files of a model repository must have names of letters, digits and "
                f"_./+@%=,:- only, got {str(relative)!r}"
            )
        if path.is_dir():
            (likeness / relative).mkdir(parents=True, exist_ok=True)
        else:
            (likeness / relative).parent.mkdir(parents=True, exist_ok=True)
            (likeness / relative).symlink_to(path)
    return likeness


def _names_tensors(model: Path) -> bool:
    config = model / "config.pbtxt"
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    return set(_TENSORS.findall(text)) == {"input", "output"}


def _missing_files(repository: Path, model: str) -> list[str]:
    config = repository / model / "config.pbtxt"
    if not config.is_file():
        return [f"{model}/config.pbtxt"]
    text = config.read_text(encoding="utf-8")
    backend = _BACKEND.search(text)
    default = _MODEL_FILES.get(backend.group(1)) if backend else None
    if default is None:  # an ensemble has no file; other backends have their own rules
        return []
    named = _MODEL_FILENAME.search(text)
    filename = named.group(1) if named else default
    versions = [path for path in (repository / model).iterdir() if path.name.isdigit()]
    if any((version / filename).exists() for version in versions):
        return []
    return [f"{model}/1/{filename}"]
