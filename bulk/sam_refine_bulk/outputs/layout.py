"""Where things lie in the output folder.

NAME.tar, NAME.json     a committed shard: its results, its sidecar
.bulk/manifest.json     which job this is
.bulk/work/NAME/        what is under way: parts, files that have no name yet
.bulk/damaged/NAME.json an input shard that could not be read
.bulk/locks/NAME
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sam_refine.contract import InvalidRequestError

PRIVATE: Final = ".bulk"


@dataclass(frozen=True)
class Place:
    """The files of one shard."""

    tar: Path
    work: Path
    lock: Path
    damaged: Path

    @property
    def parts(self) -> Path:
        return self.work / "parts"

    def aside(self) -> Path:
        """A new name for what is to be `tar`; unlike any other, should a file system not lock."""
        return self.work / f"{_ASIDE}{uuid.uuid4().hex}.tar"

    def asides(self) -> list[Path]:
        """What an earlier run has left of these."""
        return sorted(self.work.glob(f"{_ASIDE}*.tar"))

    def is_committed(self) -> bool:
        return self.tar.exists()


_ASIDE: Final = "shard-"


@dataclass(frozen=True)
class Layout:
    """An output folder."""

    root: Path

    @property
    def private(self) -> Path:
        return self.root / PRIVATE

    @property
    def manifest(self) -> Path:
        return self.private / "manifest.json"

    def place(self, name: str) -> Place:
        """Raises `InvalidRequestError` for a name that leads out of the folder."""
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts or parts[0] == PRIVATE:
            raise InvalidRequestError(f"a shard must have a name below its folder, got {name!r}")
        return Place(
            self.root / f"{name}.tar",
            self.private / "work" / name / _LEAF,
            self.private / "locks" / name / _LEAF,
            self.private / "damaged" / name / f"{_LEAF}.json",
        )


_LEAF: Final = ".shard"
"""Ends a path that is made of a shard's name: so no shard's is the folder of another's."""
