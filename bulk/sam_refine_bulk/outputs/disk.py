"""Files that are there whole, or not at all, even where the machine stops."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from sam_refine_bulk.errors import OutputError

Step: TypeAlias = Callable[[str], object]
"""Called before and after each step that changes what is on disk; tests kill here."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def no_step(name: str) -> None:
    """What is called where no test looks."""


class Disk:
    """Every change that the protocol makes. Raises `OutputError`, and leaves nothing half done."""

    def __init__(self, step: Step = no_step) -> None:
        self._step = step

    def write(self, path: Path, content: Iterable[bytes]) -> str:
        """A new file, on the disk when this returns; its SHA-256."""
        digest = hashlib.sha256()
        with self._stepped("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("xb") as file:
                    for chunk in content:
                        digest.update(chunk)
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    path.unlink()
                raise
        return digest.hexdigest()

    def replace(self, aside: Path, path: Path) -> None:
        """Give a file its name, in place of what had it."""
        with self._stepped("replace", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.replace(path)
            sync_folder(path.parent)

    def link(self, aside: Path, path: Path) -> bool:
        """Give a file its name unless something has it; whether it got it."""
        with self._stepped("link", path):
            try:
                os.link(aside, path)
            except FileExistsError:
                return False
            finally:
                aside.unlink(missing_ok=True)
            sync_folder(path.parent)
            return True

    def remove(self, path: Path) -> None:
        """A file, or a folder with all in it; nothing where it is gone already."""
        with self._stepped("remove", path):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def commit(self, aside: Path, path: Path, record: Mapping[str, Any]) -> None:
        """Publish a whole file with its sidecar, which comes first: the file's name is the commit.

        Where it ends between the two, `settle` does the second.
        """
        sidecar = sidecar_of(path)
        written = aside.with_suffix(".json")
        self.write(written, [to_bytes(record)])
        self.replace(written, sidecar)
        self.replace(aside, path)

    def settle(self, asides: Iterable[Path], path: Path) -> None:
        """End a commit that was begun: `asides` are what an earlier run has left for `path`."""
        record = read_record(sidecar_of(path))
        for aside in asides:
            if record is not None and sha256_of(aside) == record.get("sha256"):
                self.replace(aside, path)
            else:
                self.remove(aside)

    @contextmanager
    def _stepped(self, what: str, path: Path) -> Iterator[None]:
        self._step(f"before {what} {path.name}")
        try:
            yield
        except OSError as error:
            reason = "the disk is full" if error.errno in _FULL else str(error)
            raise OutputError(
                f"{path} cannot be written: {reason}; what was committed stays, and the same "
                "command goes on once that is mended"
            ) from error
        self._step(f"after {what} {path.name}")


def sidecar_of(path: Path) -> Path:
    """Where the counts and the digest of a tar are."""
    return path.with_name(f"{path.name[: -len('.tar')]}.json")


def to_bytes(record: Mapping[str, Any]) -> bytes:
    """As JSON, the same bytes for the same record."""
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode("ascii")


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is none, or none that is whole."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def sha256_of(path: Path) -> str:
    """The digest of a file; "" where it is gone."""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.hexdigest()
    except FileNotFoundError:
        return ""


def sync_folder(path: Path) -> None:
    """The names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
