"""Numpy arrays and torch tensors alike: one source for the CPU and for a GPU.

What is large stays in the library, and on the device, that it came from: the steps take their
namespace `xp` from their arrays (`array_api_compat.array_namespace`) and use of it what the array
API standard has, and `out=`, which numpy and torch have beyond it. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device, to_device

Array: TypeAlias = Any
"""A numpy array or a torch tensor; docstrings have shape and dtype."""
Float32: TypeAlias = npt.NDArray[np.float32]
UInt8: TypeAlias = npt.NDArray[np.uint8]
Int32: TypeAlias = npt.NDArray[np.int32]
Indices: TypeAlias = npt.NDArray[np.intp]
Mask: TypeAlias = npt.NDArray[np.bool_]
Labels: TypeAlias = npt.NDArray[np.int32]
"""Class ids of a map."""

TILE_HW: Final = (256, 256)
BAND: Final = 2**18
"""Pixels, on a CPU: so few that some float32 arrays of them stay in its cache, so many that a numpy
call on them is mostly work."""


class Window(NamedTuple):
    """A rectangle of a map: slices with explicit start and stop."""

    rows: slice
    columns: slice

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def inside(self, outer: Window) -> Window:
        """This window counted from the corner of `outer`."""
        return Window(
            *(
                slice(side.start - start.start, side.stop - start.start)
                for side, start in zip(self, outer, strict=True)
            )
        )

    def outside(self, outer: Window) -> Window:
        """This window, counted from the corner of `outer`, counted as `outer` is."""
        return Window(
            *(
                slice(side.start + start.start, side.stop + start.start)
                for side, start in zip(self, outer, strict=True)
            )
        )


def full_window(size_hw: tuple[int, int]) -> Window:
    """The window that is the whole map."""
    return Window(slice(0, size_hw[0]), slice(0, size_hw[1]))


def tiles(size_hw: tuple[int, int], like: Array) -> Iterator[Window]:
    """Windows that cover a map, row by row: for work that most of the map can be spared.

    A CPU is fastest on parts that stay in its cache, a GPU, if `like` is on one, on all at once.
    """
    height, width = size_hw
    rows, columns = TILE_HW if _is_on_cpu(like) else size_hw
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Window(
                slice(top, min(top + rows, height)), slice(left, min(left + columns, width))
            )


def bands(size_hw: tuple[int, int], like: Array) -> Iterator[Window]:
    """Windows as wide as the map that cover it: for work on all of it, which runs along memory."""
    height, width = size_hw
    rows = max(1, BAND // width) if _is_on_cpu(like) else height
    for top in range(0, height, rows):
        yield Window(slice(top, min(top + rows, height)), slice(0, width))


def _is_on_cpu(array: Array) -> bool:
    return str(device(array)) == "cpu"


def to_float32(array: Array) -> Array:
    """float16 or float32 as float32; the same array where it is that already.

    numpy converts half precision value by value, and slowly where some are subnormal, as small
    probabilities are. As integers all at once: exponent and fraction move to float32's place, and
    a power of two makes up for the other exponent bias, exactly. Values must be finite.
    """
    if array.dtype == np.float32:
        return array
    if not isinstance(array, np.ndarray):
        xp = array_namespace(array)
        return xp.astype(array, xp.float32, copy=False)
    bits = array.view(np.uint16).astype(np.uint32)
    sign = bits & np.uint32(0x8000)
    bits &= np.uint32(0x7FFF)
    bits <<= 13
    magnitude = bits.view(np.float32)
    magnitude *= np.float32(2.0**112)
    sign <<= 16
    bits |= sign
    return magnitude


def to_numpy(array: Array) -> npt.NDArray[Any]:
    """The same on the CPU, as a numpy array; a view where it is there already."""
    return np.asarray(to_device(array, "cpu"))


def to_like(values: npt.NDArray[Any], array: Array) -> Array:
    """Numpy's `values` in the library, and on the device, of `array`."""
    if isinstance(array, np.ndarray):
        return values
    return array_namespace(array).asarray(values, device=device(array))


def take(array: Array, which: Array, axis: int) -> Array:
    """`array` at the indices `which`, a numpy array or one beside `array`, along an axis."""
    if isinstance(array, np.ndarray):
        return array.take(which, axis)  # numpy's own function goes a longer way round
    xp = array_namespace(array)
    return xp.take(array, xp.asarray(which, device=device(array)), axis=axis)
