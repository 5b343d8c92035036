"""How long each stage of a refinement took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sam_refine.contract import STAGES
from sam_refine.numerics.arrays import Float32


class StageClock:
    """Adds up wall time by stage of `contract.STAGES`."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - start

    @property
    def times_ms(self) -> Float32:
        """(len(STAGES),) milliseconds, in the order of STAGES."""
        return np.array(list(self._seconds.values()), np.float32) * 1000
