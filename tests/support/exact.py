"""What the straight algorithm needs to be an oracle, written out: exact, and slow.

`EXACT` are the parts that it takes in tests. `bilinear` has the very bits of the library.
"""

from __future__ import annotations

import numpy as np
import torch

from sam_refine_benchmarks.sides.straight import Parts


def interpolate(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """`F.interpolate(mode="bilinear")`, but exact where two neighbours are equal.

    There `F.interpolate` leaves differences of one rounding, and which pixel of a plateau is the
    best one would be left to chance. A test holds the two against each other.
    """
    for axis, size_out in zip((-2, -1), size, strict=True):
        size_in = planes.shape[axis]
        scale = torch.tensor(size_in, dtype=torch.float32) / size_out
        source = (scale * (torch.arange(size_out) + 0.5) - 0.5).clamp(min=0)
        lower = source.long().clamp(max=size_in - 1)
        upper = (lower + 1).clamp(max=size_in - 1)
        weight = (source - lower).clamp(0, 1)
        weight = weight[:, None] if axis == -2 else weight
        start, end = planes.index_select(axis, lower), planes.index_select(axis, upper)
        planes = start + (end - start) * weight
    return planes


def flood_fill(one_class: np.ndarray) -> np.ndarray:
    """8-connected components of (h, w) by flood fill, numbered in raster order of first cells."""
    left = {(int(y), int(x)) for y, x in np.argwhere(one_class)}
    components = np.zeros(one_class.shape, np.int64)
    count = 0
    for start in sorted(left):
        if start not in left:
            continue
        count += 1
        left.remove(start)
        front = [start]
        while front:
            y, x = front.pop()
            components[y, x] = count
            for neighbour in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if neighbour in left:
                    left.remove(neighbour)
                    front.append(neighbour)
    return components


EXACT = Parts(interpolate, flood_fill)


def bilinear(planes: np.ndarray, *sizes: tuple[int, int]) -> np.ndarray:
    """(C, h, w) resized to each size in turn, float32.

    Enlarging goes along the columns first, reducing along the rows: the order decides the last bit.
    """
    resized = torch.as_tensor(planes, dtype=torch.float32)
    for height, width in sizes:
        if height >= resized.shape[1]:
            resized = interpolate(resized, (resized.shape[1], width))
        resized = interpolate(resized, (height, resized.shape[2]))
        resized = interpolate(resized, (height, width))
    return resized.numpy()
