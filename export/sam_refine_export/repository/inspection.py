"""What a repository holds, and whether it still matches its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_refine_export.errors import ExportError
from sam_refine_export.repository.manifest import Comparison, compare, manifest
from sam_refine_export.repository.model_card import CARD_NAME, ModelCard, read_card
from sam_refine_export.repository.recipe import recipe_sha256


@dataclass(frozen=True)
class Inspection:
    """A repository compared with its card."""

    card: ModelCard
    files: Comparison
    """Paths in the repository; `added` are those that the export did not write."""
    recipe_is_current: bool
    """Whether this version of sam-refine would export in the same way."""

    @property
    def matches_card(self) -> bool:
        """Whether every file is as it was written, and there are no others."""
        return self.files.is_equal


def inspect_repository(repository: Path) -> Inspection:
    """Read a repository's card and compare each file with it.

    Raises `ExportError` where there is no card or none that this version can read.
    """
    if not (repository / CARD_NAME).is_file():
        raise ExportError(f"{repository} is not a repository of sam-refine: it has no {CARD_NAME}")
    card = read_card(repository)
    if card is None:
        raise ExportError(
            f"{repository / CARD_NAME} cannot be read: it is damaged or from another version; "
            "export again"
        )
    try:
        files = compare(manifest(repository, leave_out=CARD_NAME), card.files)
    except OSError as error:
        raise ExportError(f"{repository} cannot be read: {error}") from error
    return Inspection(card, files, card.recipe_sha256 == recipe_sha256())
