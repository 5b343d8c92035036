"""What the page offers to somebody who has no data at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """A photo with class scores."""

    photo: Path
    """JPEG or PNG."""
    scores: Path
    """(C, h, w) as .npy, probabilities."""
    class_names: tuple[str, ...]
    """In the order of the scores."""
