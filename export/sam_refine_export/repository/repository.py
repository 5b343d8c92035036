"""A model repository ready to serve: this project's `model_repository` with graphs in place."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER, SAM_REFINE
from sam_refine_export.checksum import sha256
from sam_refine_export.errors import ExportError
from sam_refine_export.repository.manifest import compare, manifest
from sam_refine_export.repository.model_card import CARD_NAME, written_files
from sam_refine_export.repository.template import template, template_files
from sam_refine_export.repository.triton_config import name_networks

ENCODER_ONNX: Final = f"{SAM_IMAGE_ENCODER.name}/1/model.onnx"
DECODER_ONNX: Final = f"{SAM_MASK_DECODER.name}/1/model.onnx"
"""Where the graphs lie, relative to the repository."""
REFINE_CONFIG: Final = f"{SAM_REFINE.name}/config.pbtxt"

_SHOWN: Final = 5
_LOCK: Final = "lock"
_NEW: Final = "new"
_OLD: Final = "old"
"""In the scratch directory."""

_log = logging.getLogger(__name__)


@contextmanager
def new_repository(output: Path, *, replace: bool = False) -> Iterator[Path]:
    """A copy of the template, still without graphs, that becomes `output` when the block ends.

    It lies beside `output`, so that moving it there is a rename; if the block raises, it is
    deleted. A repository that an export wrote earlier is replaced, but with changed or added files
    only if `replace` says so. Raises `ExportError` where `output` is or becomes anything else, and
    where another process is exporting to it.
    """
    _require_possible(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(output) as scratch:
        _require_replaceable(output, replace)
        fresh = scratch / _NEW
        for relative, source in template_files().items():
            target = fresh / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for graph in (ENCODER_ONNX, DECODER_ONNX):
            (fresh / graph).parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        _require_replaceable(output, replace)  # the block may have taken minutes
        _swap(fresh, output, scratch / _OLD)


def finished(repository: Path) -> dict[str, str]:
    """Have a repository with its graphs say which they are (`name_networks`); its files' sha256."""
    files = manifest(repository, leave_out=CARD_NAME)
    name_networks(repository / REFINE_CONFIG, files)
    return {**files, REFINE_CONFIG: sha256(repository / REFINE_CONFIG)}


def _require_possible(output: Path) -> None:
    """Raise `ExportError` where no repository can be put, whatever is there now."""
    root = template()
    if output == root or root in output.parents or output in root.parents:
        raise ExportError(f"{output} is where this project keeps its template, {root}")
    if not output.exists():
        return
    if not output.is_dir():
        raise ExportError(f"{output} exists and is not a directory")
    if output.is_mount():
        raise ExportError(
            f"{output} is a mount point, which cannot be replaced as a whole; "
            "choose a directory inside it"
        )
    if not os.access(output, os.W_OK | os.X_OK):
        raise ExportError(f"{output} cannot be replaced: no permission to write to it")


def _require_replaceable(output: Path, replace: bool) -> None:
    """Raise `ExportError` where replacing what is there would lose something."""
    _require_possible(output)
    if not output.exists() or not any(output.iterdir()):
        return
    expected = written_files(output)
    if expected is None:
        raise ExportError(
            f"{output} is not empty and no export wrote it (it has no {CARD_NAME} of one); "
            "choose another directory or empty this one"
        )
    if replace:
        return
    comparison = compare(manifest(output, leave_out=CARD_NAME), expected)
    differing = [*comparison.changed, *comparison.added]
    if differing:
        shown = ", ".join(differing[:_SHOWN])
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise ExportError(
            f"{output} has been changed since it was exported ({shown}{more}); "
            "choose another directory, or say --replace to lose these changes"
        )


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A directory beside `output` for this process alone; it is deleted when the block ends.

    One that a killed process left behind is cleared first. If that process had just moved the old
    repository out of the way, the repository comes back.
    """
    scratch = output.with_name(f".{output.name}.export")
    scratch.mkdir(exist_ok=True)
    with (scratch / _LOCK).open("wb") as lock:
        _lock(lock, scratch, output)
        try:
            if (scratch / _OLD).exists() and not output.exists():
                (scratch / _OLD).rename(output)
            for left_over in (scratch / _NEW, scratch / _OLD):
                _remove(left_over)
            yield scratch
        finally:
            _remove(scratch)


def _lock(lock: BinaryIO, scratch: Path, output: Path) -> None:
    busy = f"another process is exporting to {output}"
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExportError(busy) from error
    # Another may have ended between the opening and the lock: then this is no longer its file.
    path = scratch / _LOCK
    if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
        raise ExportError(busy)


def _remove(directory: Path) -> None:
    """Delete a directory if it is there; if that fails, a warning is enough."""
    if not directory.exists():
        return
    try:
        shutil.rmtree(directory)
    except OSError as error:
        _log.warning("%s cannot be deleted: %s", directory, error)


def _swap(fresh: Path, output: Path, old: Path) -> None:
    """Put `fresh` in the place of `output`; if that fails or is interrupted, nothing changes."""
    try:
        if output.exists():
            output.rename(old)
        fresh.rename(output)
    except BaseException:  # a KeyboardInterrupt too: `old` goes with the scratch directory
        if old.exists() and not output.exists():
            old.rename(output)
        raise
