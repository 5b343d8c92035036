"""Whether the answer of another model (BLS) is the one to this call.

Triton's stub waits for an answer without asking whether it has come. Where a stub was stopped or
got no time for seconds, it is woken too soon: it then reads the answer before, perhaps of another
image, from memory that it has given back. So what is read is copied and marked, and what bears a
mark is not used.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sam_refine.numerics.arrays import Float32, Indices

_MARK: Final = np.uint32(0x7FD5A3E1)
"""The bits of a NaN that no arithmetic makes."""
_PLACES: Final = 64
"""Of an array; what is new in the same memory overwrites some of them."""


class StaleAnswerError(Exception):
    """An answer is not that of the call; those that follow will not be either."""


def read_once(tensor: Any) -> Float32:
    """A copy of a callee's output (...) float32, which is marked. Raises `StaleAnswerError`."""
    if tensor is None:
        raise StaleAnswerError("the answer has other outputs")
    in_place = tensor.as_numpy()
    array: Float32 = in_place.copy()
    bits = in_place.reshape(-1).view(np.uint32)
    places = _places(bits.size)
    if (bits[places] == _MARK).any():
        raise StaleAnswerError("the answer has been read before")
    bits[places] = _MARK
    return array


def _places(count: int) -> Indices:
    """Evenly spaced, the first and the last among them; all of a few."""
    return np.unique(np.linspace(0, count - 1, min(count, _PLACES)).astype(np.intp))
