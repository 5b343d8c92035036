"""What a repository holds, where it comes from and how it was checked: `model_card.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sam_refine_export.validation_report import ValidationReport

CARD_NAME: Final = "model_card.json"


@dataclass(frozen=True)
class Source:
    """Where parameters come from."""

    name: str
    """A package with its version, or a checkpoint's file name."""
    licence: str | None
    """None where only the file is known."""
    sha256: dict[str, str]
    """Checksums by file name."""


@dataclass(frozen=True)
class ModelCard:
    """One export."""

    model: str
    source: Source
    precision: str
    device: str
    """`ExportOptions.device`."""
    max_batch_size: int
    """Images that the encoder takes at a time."""
    opset: int
    versions: dict[str, str]
    """Of this project and of what it exported with, by distribution."""
    recipe_sha256: str
    """Of the exporting code and the template: another recipe may write another repository."""
    files: dict[str, str]
    """sha256 of every other file of the repository, by its path there."""
    half_precision: dict[str, Any] | None
    """`HalfPrecision.to_json` of each graph in float16."""
    validation: ValidationReport
    """Every figure of the comparison with PyTorch and, for MobileSAM, the published graphs."""

    def write(self, repository: Path) -> None:
        """Put the card into a repository."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True)
        (repository / CARD_NAME).write_text(text + "\n", encoding="utf-8")


def read_card(repository: Path) -> ModelCard | None:
    """The card of a repository, or None where there is none that this version can read."""
    from pydantic import TypeAdapter  # here: the package imports without its extra

    try:
        return TypeAdapter(ModelCard).validate_json((repository / CARD_NAME).read_bytes())
    except (OSError, ValueError):
        return None


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
