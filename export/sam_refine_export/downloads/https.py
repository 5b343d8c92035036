"""A published checkpoint into a directory over https: resumed, retried, checked."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import requests
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, InvalidSchema
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from sam_refine_export.checksum import sha256
from sam_refine_export.errors import ExportError
from sam_refine_export.variants import PublishedCheckpoint

OnProgress: TypeAlias = Callable[[int, int], None]
"""Is told how many bytes there are and how many there will be."""

_ATTEMPTS: Final = 6
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0
_TIMEOUTS_S: Final = (10.0, 60.0)
"""To connect, and between two pieces of an answer."""
_BLOCK_BYTES: Final = 1 << 16
"""What is written at a time, and so the most that a broken connection loses."""


class _AttemptError(Exception):
    """An attempt failed, but the next one may succeed: the reason, in a few words."""


class _WrongFileError(ExportError):
    """The server sends another file: no part of it is worth keeping."""


def fetch_checkpoint(
    published: PublishedCheckpoint,
    directory: Path,
    on_progress: OnProgress = lambda done_bytes, total_bytes: None,
) -> Path:
    """The file in `directory`, fetched unless it is there intact.

    A part of it is kept beside it as `<file_name>.part`, even after an interrupt or an error, and
    the next call resumes there. The environment's proxies are used. Raises `ExportError` where the
    file cannot be fetched or written, is not the expected one, or is already being fetched.
    """
    target = directory / published.file_name
    part = directory / f"{published.file_name}.part"
    try:
        if target.is_file() and sha256(target) == published.sha256:
            on_progress(published.size_bytes, published.size_bytes)
            return target
        directory.mkdir(parents=True, exist_ok=True)
        # unbuffered: closing after an error has nothing left to write, so nothing to fail with
        with part.open("ab", buffering=0) as file:
            _lock(file, part)
            try:
                _fetch(published, file, on_progress)
                _require_checksum(part, published)
            except _WrongFileError:
                part.unlink()
                raise
            part.replace(target)
    except OSError as error:
        raise ExportError(
            f"the download to {part} failed: {error.strerror}; "
            "once that is put right, running the command again resumes"
        ) from error
    return target


def _lock(file: FileIO, part: Path) -> None:
    """Make this the only download to `file` until it is closed."""
    busy = f"{part} is already being fetched by another process"
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExportError(busy) from error
    # Another may have finished between the opening and the lock: then this is no longer `part`.
    if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
        raise ExportError(busy)


def _fetch(published: PublishedCheckpoint, file: FileIO, on_progress: OnProgress) -> None:
    """Fill `file` up to the size expected, in as many attempts as are allowed."""
    retrying = Retrying(
        retry=retry_if_exception_type(_AttemptError),
        wait=wait_exponential(_FIRST_WAIT_S, max=_LONGEST_WAIT_S) + wait_random(0, _FIRST_WAIT_S),
        stop=stop_after_attempt(_ATTEMPTS),
        reraise=True,
    )
    try:
        with _session(published.url) as session:
            retrying(_fetch_rest, published, file, session, on_progress)
    except _AttemptError as error:
        raise ExportError(
            f"{published.url} could not be fetched in {_ATTEMPTS} attempts: {error}; "
            "running the command again resumes"
        ) from error
    except InvalidSchema as error:
        raise ExportError(f"{published.url} leads to an address that is not https") from error
    except requests.RequestException as error:
        raise ExportError(f"{published.url} cannot be fetched: {error}") from error


def _session(url: str) -> requests.Session:
    """A session that follows redirects to https and to the scheme of `url`, and to no other."""
    session = requests.Session()
    for prefix in list(session.adapters):
        if prefix not in ("https://", f"{urlsplit(url).scheme}://"):
            del session.adapters[prefix]
    return session


def _fetch_rest(
    published: PublishedCheckpoint,
    file: FileIO,
    session: requests.Session,
    on_progress: OnProgress,
) -> None:
    """One attempt: append what `file` lacks; start over where the server does not go on from there.

    Raises `_AttemptError` where another attempt may succeed.
    """
    size = published.size_bytes
    done = file.seek(0, os.SEEK_END)
    if done > size:
        done = file.truncate(0)
    on_progress(done, size)
    if done == size:
        return
    headers = {"Accept-Encoding": "identity"}  # a compressed file has other offsets
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        with session.get(
            published.url, headers=headers, stream=True, timeout=_TIMEOUTS_S
        ) as response:
            start = _start(response, published)
            if start != done:
                done = file.truncate(0)
                if start != 0:
                    raise _AttemptError("the server sent another part of the file than asked for")
            for block in response.iter_content(_BLOCK_BYTES):
                if done + len(block) > size:
                    raise _WrongFileError(
                        f"{published.url} has more than the {size} bytes expected"
                    )
                _append(file, block)
                done += len(block)
                on_progress(done, size)
    except (requests.ConnectionError, requests.Timeout, ContentDecodingError) as error:
        raise _AttemptError(f"the connection failed ({_reason(error)})") from error
    except ChunkedEncodingError as error:
        raise _AttemptError(f"the server stopped after {done} of {size} bytes") from error
    if done < size:  # of a body without a length
        raise _AttemptError(f"the server stopped after {done} of {size} bytes")


def _start(response: requests.Response, published: PublishedCheckpoint) -> int | None:
    """Where in the file the body of a response starts; None if it is no part of the file."""
    status = f"{response.status_code} {response.reason}".strip()
    match response.status_code:
        case 200:
            length = response.headers.get("Content-Length", "")
            is_plain = "Content-Encoding" not in response.headers
            if is_plain and length.isdigit() and int(length) != published.size_bytes:
                raise ExportError(
                    f"{published.url} has {length} bytes, expected {published.size_bytes}"
                )
            return 0
        case 206:
            content_range = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            return int(content_range[1]) if content_range else None
        case 416:  # the range asked for lies outside the file
            return None
        case code if code == 429 or code >= 500:
            raise _AttemptError(f"the server answers {status}")
        case _:
            raise ExportError(f"{published.url} cannot be fetched: the server answers {status}")


def _append(file: FileIO, block: bytes) -> None:
    rest = memoryview(block)
    while rest:  # an unbuffered file may take less than it is given
        rest = rest[file.write(rest) :]


def _reason(error: BaseException) -> str:
    """What happened, in few words: those of the system's error below requests and urllib3."""
    reason = str(error)
    while below := error.__cause__ or error.__context__:
        if isinstance(below, OSError):
            reason = below.strerror or str(below)
        error = below
    return reason


def _require_checksum(part: Path, published: PublishedCheckpoint) -> None:
    found = sha256(part)
    if found != published.sha256:
        raise _WrongFileError(
            f"{published.url} came with the sha256 {found}, expected {published.sha256}; "
            "it was deleted, and running the command again starts over"
        )
