"""How sure a figure of a data set is: the bootstrap over its images (Efron 1979)."""

from __future__ import annotations

from typing import Final

import numpy as np

from sam_refine_quality.metrics.statistics import Numbers

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 1000


def resample(images: int, resamples: int = RESAMPLES, seed: int = 0) -> Numbers:
    """(R, n) how often each of n images is drawn: n of them each time, with replacement.

    Figures that are compared must be of the same resamples.
    """
    drawn = np.random.default_rng(seed).multinomial(images, [1 / images] * images, size=resamples)
    return drawn.astype(np.float64)


def interval(values: Numbers, confidence: float = CONFIDENCE) -> Numbers:
    """(R, ...) figures of resamples to the percentiles (2, ...) between which most of them lie.

    Resamples that have no such figure, NaN, are left out; NaN where none has one.
    """
    tail = (1 - confidence) / 2
    flat = values.reshape(len(values), -1)
    ends = np.full((2, flat.shape[1]), np.nan)
    known = ~np.isnan(flat).all(axis=0)
    if known.any():
        ends[:, known] = np.nanquantile(flat[:, known], (tail, 1 - tail), axis=0)
    return ends.reshape(2, *values.shape[1:])
