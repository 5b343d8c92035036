"""A client whose refined maps are made by the test, and that counts what it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sam_refine.contract import EMBEDDING_SHAPE, RefineOptions
from sam_refine_client import Embedding, RefineResult, Region
from sam_refine_quality import Sample

Change = Callable[[np.ndarray, RefineOptions], np.ndarray]
"""Coarse labels (H, W) and the options to refined labels."""


class ScriptedClient:
    """`refine` changes the argmax of scores that have the image's size; `errors` come first."""

    def __init__(self, change: Change, *errors: Exception | None) -> None:
        self.change = change
        self.errors = list(errors)
        self.asked: Counter[str] = Counter()
        self.options: list[RefineOptions] = []
        self.is_same_image = False

    @contextmanager
    def same_image(self) -> Iterator[None]:
        self.is_same_image = True
        yield
        self.is_same_image = False

    def embed(self, image: np.ndarray, *, timeout_s: float | None) -> Embedding:
        assert self.is_same_image
        self.asked["embed"] += 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        values = np.broadcast_to(np.float32(0), (1, *EMBEDDING_SHAPE))
        return Embedding(values, (image.shape[0], image.shape[1]))

    def refine(
        self, *, embedding: Embedding, logits: Any, options: RefineOptions, **rest: Any
    ) -> RefineResult:
        self.asked["refine"] += 1
        self.options.append(options)
        coarse = np.asarray(logits).argmax(axis=0).astype(np.int32)
        assert coarse.shape == embedding.size_hw
        regions = [Region(0, (0, 0, 1, 1), 0.5, 0.5, kept) for kept in (True, True, False)]
        refined = self.change(coarse, options).astype(np.int32)
        return RefineResult(refined, coarse, None, tuple(regions), {}, "scripted")


def sample(name: str, truth: np.ndarray, coarse: np.ndarray, classes: int) -> Sample:
    """A sample whose coarse map is `coarse` (H, W)."""
    scores = (np.arange(classes)[:, None, None] == coarse).astype(np.float32)
    image = np.zeros((*coarse.shape, 3), np.uint8)
    return Sample(name, image, scores, truth, truth_name=f"truth of {name}")
