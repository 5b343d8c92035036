"""What a folder of results was made with, and of: a run that goes on must be the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sam_refine.contract import InvalidRequestError
from sam_refine_client.decoding import decoding
from sam_refine_client.files.whole_files import write_whole

MANIFEST_NAME: Final = "sam-refine.json"
INPUTS_NAME: Final = "sam-refine.inputs.jsonl"
CARD_NAME: Final = "model_card.json"
MODEL_CARD: Final = "model_card"
"""The setting that is the digest of a model's card; `NETWORKS_SHA256` is what servers say."""
_BLOCK_BYTES: Final = 2**20


def write_manifest(directory: Path, settings: Mapping[str, Any]) -> None:
    """Write settings, of JSON's kinds, into a folder of results. Raises `OSError`."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    write_whole({directory / MANIFEST_NAME: text.encode()})


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The settings that a folder's results were made with, None where it has no manifest.

    Raises `InvalidRequestError` where it is damaged, `OSError`.
    """
    path = directory / MANIFEST_NAME
    try:
        with decoding(f"{path} is damaged", "; remove it"):
            return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def check_goes_on(directory: Path, settings: Mapping[str, Any]) -> None:
    """Raise `InvalidRequestError` where the folder's results were made with other settings.

    A folder without a manifest, of an earlier version or of nobody, is taken as it is.
    """
    before = read_manifest(directory)
    if before is None:
        return
    changed = _changed(before, json.loads(json.dumps(settings)))
    if changed:
        raise InvalidRequestError(
            f"the results in {directory} were made with {'; '.join(changed)}: take another folder, "
            "or leave --skip-existing out"
        )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, as "name value, now value"; of mappings within, what differs in them."""
    found = []
    for name in sorted({*before, *now}):
        was, is_now = before.get(name), now.get(name)
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            found += _changed(was, is_now)
        elif was != is_now:
            found.append(f"{name} {was!r}, now {is_now!r}")
    return found


def card_digest(repository: Path | None) -> str | None:
    """SHA-256 of the model card of a repository; None without one, as for a server's. `OSError`."""
    card = None if repository is None else repository / CARD_NAME
    return sha256(card.read_bytes()).hexdigest() if card and card.is_file() else None


class InputRecords:
    """The files that each image's results were made of: a line for an image, beside the results.

    A file whose place, size and time are as they were is the same; else its SHA-256 decides. Of an
    image without a line, such as one of an earlier version, times alone decide.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Read what earlier runs have written; a line that was cut short counts for nothing.

        `settings` are the manifest's: results of others are not up to date. Raises `OSError`.
        """
        self._path = directory / INPUTS_NAME
        self.made_with(settings)
        self._records: dict[str, dict[str, Any]] = {}
        self._read: dict[str, list[dict[str, Any]]] = {}
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                record = json.loads(line)
                record["files"] = [dict(file) for file in record["files"]]
                self._records[record["image"]] = record
            except (ValueError, KeyError, TypeError):
                continue

    def made_with(self, settings: Mapping[str, Any]) -> None:
        """From now on results are made with these settings."""
        self._settings = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def is_up_to_date(self, image: str, results: Sequence[Path], inputs: Sequence[Path]) -> bool:
        """Whether all results of an image are there, made of these inputs as they are now."""
        try:
            oldest_ns = min(path.stat().st_mtime_ns for path in results)
            record = self._records.get(image)
            if record is None:
                return all(path.stat().st_mtime_ns <= oldest_ns for path in inputs)
            before, now = record["files"], [_described(path, record["files"]) for path in inputs]
        except OSError:
            return False
        if record.get("settings") != self._settings or _digests(before) != _digests(now):
            return False
        if before != now:  # touched or moved: not to be read again the next time
            with suppress(OSError):
                self._write(image, now)
        return True

    def read(self, image: str, inputs: Sequence[Path]) -> None:
        """Note what an image's results are about to be made of. Raises `OSError`."""
        self._read[image] = [_described(path) for path in inputs]

    def done(self, image: str) -> None:
        """Say that its results are there, made of what was noted. Raises `OSError`."""
        self._write(image, self._read.pop(image))

    def _write(self, image: str, files: list[dict[str, Any]]) -> None:
        record = {"image": image, "settings": self._settings, "files": files}
        self._records[image] = record
        with self._path.open("ab") as file:
            file.write(f"\n{json.dumps(record)}\n".encode())  # the last line may be cut short


def _described(path: Path, before: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Place, size, time and SHA-256; the latter is that of `before` where the rest is the same."""
    status = path.stat()
    found: dict[str, Any] = {
        "path": str(path.resolve()),
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
    for other in before:
        if {**other, **found} == other and "sha256" in other:
            return dict(other)
    return {**found, "sha256": _digest(path, status.st_size, status.st_mtime_ns)}


@lru_cache(maxsize=64)
def _digest(path: Path, size_bytes: int, mtime_ns: int) -> str:
    """SHA-256 of a file, which may be the same for many images: of COCO, for one."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _digests(files: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [file.get("sha256") for file in files]
