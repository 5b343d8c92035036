"""Files of strangers: whatever a decoder raises of their bytes is one error, and the file's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sam_refine.contract import InvalidRequestError


@contextmanager
def decoding(rule: str, advice: str = "") -> Iterator[None]:
    """Inside the block is a decoder's work: what it raises is an `InvalidRequestError` of `rule`.

    Pillow, numpy, torch, json and what is below them raise errors of any kind for bytes that are
    damaged, or claim to be what they are not: struct.error, zlib.error, RecursionError, MemoryError
    and more. `OSError` is passed on: the file cannot be read. `advice` ends the sentence.
    """
    try:
        yield
    except (InvalidRequestError, OSError):
        raise
    except Exception as error:
        raise InvalidRequestError(f"{rule}: {in_one_line(error)}{advice}") from error


def json_of(name: str, text: str | bytes) -> Any:
    """The value of JSON, of a text or of a file's content; `name` is for the error.

    Raises `InvalidRequestError`.
    """
    with decoding(f"{name} must be JSON"):
        return json.loads(text)


def in_one_line(error: BaseException) -> str:
    """What an error says, or its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
