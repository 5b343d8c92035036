"""What a folder of results was made with, beside them: a run that goes on must be the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sam_refine.contract import InvalidRequestError
from sam_refine_client.files.whole_files import write_whole

MANIFEST_NAME: Final = "sam-refine.json"


def write_manifest(directory: Path, settings: Mapping[str, Any]) -> None:
    """Write settings, of JSON's kinds, into a folder of results. Raises `OSError`."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    write_whole({directory / MANIFEST_NAME: lambda file: file.write(text.encode())})


def check_goes_on(directory: Path, settings: Mapping[str, Any]) -> None:
    """Raise `InvalidRequestError` where the folder's results were made with other settings.

    A folder without a manifest, of an earlier version or of nobody, is taken as it is.
    """
    path = directory / MANIFEST_NAME
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError as error:
        raise InvalidRequestError(f"{path} is damaged: {error}; remove it") from error
    now = json.loads(json.dumps(settings))
    changed = [
        f"{name} {before.get(name)!r}, now {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise InvalidRequestError(
            f"the results in {directory} were made with {'; '.join(changed)}: take another folder, "
            "or leave --skip-existing out"
        )


def is_up_to_date(results: list[Path], inputs: list[Path]) -> bool:
    """Whether all results are there, and none is older than an input."""
    try:
        oldest_ns = min(path.stat().st_mtime_ns for path in results)
        return all(path.stat().st_mtime_ns <= oldest_ns for path in inputs)
    except OSError:
        return False
