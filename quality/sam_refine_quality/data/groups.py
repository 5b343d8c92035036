"""Groups of images, such as videos, from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam_refine.contract import InvalidRequestError


def load_groups(path: Path, stems: Sequence[str]) -> list[str]:
    """The group of each image, by its name without ending: lines of a name, a space, a group.

    The group is what follows the last space or tab of a line. Raises `InvalidRequestError` for a
    line that is something else, a name that comes twice, and an image that has none; `OSError`
    where the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise InvalidRequestError(f"{path} must be a text file in UTF-8: {error}") from error
    groups: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        parts = line.strip().rsplit(maxsplit=1)
        if len(parts) != 2:
            raise InvalidRequestError(
                f"{path}, line {number}: must be an image's name, a space and its group, "
                f"got {line.strip()!r:.80}"
            )
        if parts[0] in groups:
            raise InvalidRequestError(f"{path}, line {number}: {parts[0]!r:.80} comes twice")
        groups[parts[0]] = parts[1]
    missing = [stem for stem in stems if stem not in groups]
    if missing:
        raise InvalidRequestError(
            f"{path} must have a line for each image, got none for {missing[0]!r:.80} "
            f"({len(missing)} in all)"
        )
    return [groups[stem] for stem in stems]
