"""A sample: one image, and what is known of its coarse map, by its key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sam_refine.contract import InvalidRequestError

Job: TypeAlias = dict[str, Any]
"""Arguments of the client's `refine`: image, and logits or labels or both."""

_MOST_KEY_BYTES: Final = 1000
_NO_KEY: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Sample:
    """One image of a shard."""

    key: str
    read: Callable[[], Job]
    """Its job. Whatever it raises, the image counts as failed, with the error as reason."""
    occurrence: int = 0
    """Which sample of that key it is: 0 but for duplicates, which are never refined."""


@dataclass(frozen=True)
class Index:
    """All samples of a shard, in its order."""

    samples: Sequence[Sample]
    fingerprint: str
    """Changes where what is in the shard does: names, sizes, order."""


def fingerprint_of(facts: Iterable[object]) -> str:
    """The digest of facts in their order."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(repr(fact).encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()


def checked(sample: Sample) -> Sample:
    """The sample, or one that fails for its key: a duplicate, or a name that leads elsewhere."""
    if sample.occurrence:
        return _failing(sample, f"{sample.key} comes again in the shard: give each image a key")
    wrong = wrong_in_key(sample.key)
    return sample if wrong is None else _failing(sample, wrong)


def wrong_in_key(key: str) -> str | None:
    """Why a key cannot be the name of a tar's member, which somebody will unpack; or None."""
    if not key or key.endswith("/"):
        return "the key must have a name, got none"
    if _NO_KEY.search(key) or "\\" in key:
        return f"the key must have no control characters and no backslash, got {key!r:.80}"
    if key.startswith("/") or {"..", "."} & set(key.split("/")):
        return f"the key must not lead out of the folder that it is unpacked in, got {key!r:.80}"
    if len(key.encode("utf-8", "surrogateescape")) > _MOST_KEY_BYTES:
        return f"the key must have at most {_MOST_KEY_BYTES} bytes, got {key!r:.80}"
    return None


def _failing(sample: Sample, reason: str) -> Sample:
    def read() -> Job:
        raise InvalidRequestError(reason)

    return Sample(sample.key, read, sample.occurrence)
