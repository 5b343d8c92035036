"""What was doubtful about an input, and how it was taken."""

from __future__ import annotations

from collections.abc import Iterable


class Notes:
    """Sentences for the caller, in the order in which they came up; each is kept once."""

    def __init__(self, sentences: Iterable[str] = ()) -> None:
        self._sentences: dict[str, None] = dict.fromkeys(sentences)

    def add(self, sentence: str) -> None:
        """Keep a sentence."""
        self._sentences[sentence] = None

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(self._sentences)
