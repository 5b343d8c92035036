"""The recipe: all code and text that decides how an exported repository comes out.

An export is out of date when its recipe is another one (`pipeline.is_current`). So the recipe must
cover everything that decides a graph or a config, and should cover nothing else: each change to it
asks every user for a new export.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from sam_refine.contract import tensors
from sam_refine_export.repository.template import template_files

PACKAGE: Final = Path(__file__).parents[1]

PARTS: Final = (
    "variants.py",
    "weights",
    "networks",
    "graphs",
    "repository/triton_config.py",
)
"""Modules and whole folders of this package that are in the recipe.

The contract's tensors and the files of the template belong to it too. The rest does not: options
and checksums of the weights are on the model card, where `is_current` compares them one by one, so
it is all one how they were read or downloaded; the validation looks at the graphs and leaves them
as they are; the pipeline calls the parts in their order and adds nothing."""


def recipe_files() -> dict[str, Path]:
    """Every file of the recipe, by a name that is the same on every machine."""
    code = {
        f"export/{path.relative_to(PACKAGE).as_posix()}": path
        for part in PARTS
        for path in _python_files(PACKAGE / part)
    }
    template = {f"template/{name}": path for name, path in template_files().items()}
    return code | {"contract/tensors.py": Path(tensors.__file__)} | template


def recipe_sha256() -> str:
    """One checksum of names and content of all files of the recipe."""
    recipe = hashlib.sha256()
    for name, path in sorted(recipe_files().items()):
        content = path.read_bytes()
        recipe.update(f"{name} {len(content)}\n".encode() + content)
    return recipe.hexdigest()


def _python_files(part: Path) -> list[Path]:
    return sorted(part.rglob("*.py")) if part.is_dir() else [part]
