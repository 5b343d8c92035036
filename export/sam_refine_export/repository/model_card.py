"""What a repository holds, where it comes from and how it was checked: `model_card.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sam_refine_export.options import Device, Precision
from sam_refine_export.repository.manifest import Manifest
from sam_refine_export.repository.source import Source
from sam_refine_export.validation.validation_report import ValidationReport
from sam_refine_export.variants import Model

CARD_NAME: Final = "model_card.json"


@dataclass(frozen=True)
class ModelCard:
    """One export."""

    model: Model
    source: Source
    precision: Precision
    device: Device
    max_batch_size: int
    """Images that the encoder takes at a time."""
    opset: int
    versions: dict[str, str]
    """Of this project and the packages that it exported with, by distribution."""
    recipe_sha256: str
    """Of the exporting code and the template (`repository.recipe`)."""
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
    return _read(ModelCard, repository)


@dataclass(frozen=True)
class _WrittenFiles:
    """What every version's card has."""

    recipe_sha256: str
    files: dict[str, str]


def written_files(repository: Path) -> Manifest | None:
    """What an export wrote to a repository besides the card; None where no export did."""
    card = _read(_WrittenFiles, repository)
    return None if card is None else card.files


_Card = TypeVar("_Card")


def _read(kind: type[_Card], repository: Path) -> _Card | None:
    from pydantic import TypeAdapter  # here: the package imports without its extra

    try:
        return TypeAdapter(kind).validate_json((repository / CARD_NAME).read_bytes())
    except (OSError, ValueError):
        return None
