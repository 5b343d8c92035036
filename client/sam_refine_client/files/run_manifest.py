"""What a folder of results was made with, and of: a run that goes on must be the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sam_refine.contract import InvalidRequestError
from sam_refine_client.files.whole_files import write_whole

MANIFEST_NAME: Final = "sam-refine.json"
INPUTS_NAME: Final = "sam-refine.inputs.jsonl"
_BLOCK_BYTES: Final = 2**20


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


class InputRecords:
    """The files that each image's results were made of: a line for an image, beside the results.

    A file whose size and time are as they were is the same; else its SHA-256 decides. Of an image
    without a line, such as one of an earlier version, times alone decide.
    """

    def __init__(self, directory: Path) -> None:
        """Read what earlier runs have written; a line that was cut short counts for nothing.

        Raises `OSError`.
        """
        self._path = directory / INPUTS_NAME
        self._files: dict[str, list[dict[str, Any]]] = {}
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                record = json.loads(line)
                self._files[record["image"]] = [dict(file) for file in record["files"]]
            except (ValueError, KeyError, TypeError):
                continue

    def is_up_to_date(self, image: str, results: Sequence[Path], inputs: Sequence[Path]) -> bool:
        """Whether all results of an image are there, made of these inputs as they are now."""
        try:
            oldest_ns = min(path.stat().st_mtime_ns for path in results)
            before = self._files.get(image)
            if before is None:
                return all(path.stat().st_mtime_ns <= oldest_ns for path in inputs)
            return len(before) == len(inputs) and all(map(_is_same, inputs, before))
        except OSError:
            return False

    def add(self, image: str, inputs: Sequence[Path]) -> None:
        """Say that an image's results were made of these just now. Raises `OSError`."""
        files = [_described(path) for path in inputs]
        if self._files.get(image) == files:
            return
        self._files[image] = files
        line = json.dumps({"image": image, "files": files})
        with self._path.open("ab") as file:
            file.write(f"\n{line}\n".encode())  # the last line may have been cut short


def _described(path: Path) -> dict[str, Any]:
    status = path.stat()
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return {
        "name": path.name,
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256": digest.hexdigest(),
    }


def _is_same(path: Path, before: Mapping[str, Any]) -> bool:
    status = path.stat()
    if (path.name, status.st_size) != (before.get("name"), before.get("bytes")):
        return False
    is_untouched = status.st_mtime_ns == before.get("mtime_ns")
    return is_untouched or _described(path)["sha256"] == before.get("sha256")
