"""What lies in a directory, file by file, and how it differs from what should lie there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from sam_refine_export.checksum import sha256

Manifest: TypeAlias = Mapping[str, str]
"""By path in the directory: a file's sha256; for an empty directory, whose path ends in a slash,
the empty string; for anything else, such as a pipe or a link to nowhere, `NO_FILE`."""

NO_FILE: Final = "no file"


@dataclass(frozen=True)
class Comparison:
    """A directory held against a manifest: sorted paths."""

    intact: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether everything is as expected, and there is nothing else."""
        return not (self.changed or self.missing or self.added)


def compare(found: Manifest, expected: Manifest) -> Comparison:
    """Say what of `found` is as expected, and what is not.

    A directory that is empty because something is missing is not one that was added.
    """
    both = sorted(found.keys() & expected.keys())
    missing = sorted(expected.keys() - found.keys())
    emptied = {f"{parent}/" for path in missing for parent in PurePosixPath(path).parents}
    return Comparison(
        intact=tuple(path for path in both if found[path] == expected[path]),
        changed=tuple(path for path in both if found[path] != expected[path]),
        missing=tuple(missing),
        added=tuple(sorted(found.keys() - expected.keys() - emptied)),
    )


def manifest(directory: Path, leave_out: str) -> Manifest:
    """Everything in a directory except for one file; links are followed.

    Byte code that Triton's Python stub leaves beside the models does not count.
    """
    return {
        path.relative_to(directory).as_posix() + "/" * path.is_dir(): _checksum(path)
        for path in _leaves(directory, frozenset())
        if path != directory / leave_out
    }


def _leaves(directory: Path, above: frozenset[str]) -> Iterator[Path]:
    """Everything that is not a directory, and empty directories; no byte code.

    `above` are the directories that this one lies in: a link back to one of them is a leaf.
    """
    above |= {os.path.realpath(directory)}
    for path in sorted(directory.iterdir()):
        if not path.is_dir() or os.path.realpath(path) in above:
            yield path
            continue
        entries = list(path.iterdir())
        if path.name == "__pycache__":
            yield from (entry for entry in entries if entry.suffix != ".pyc")
        elif entries:
            yield from _leaves(path, above)
        else:
            yield path


def _checksum(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    return "" if path.is_dir() else NO_FILE
