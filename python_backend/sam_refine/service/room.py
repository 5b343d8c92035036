"""Whether there is memory for a request, before its work is begun.

What is not refused here and finds no memory ends the process that works on it, and the next try of
the same request the next one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sam_refine.algorithm.scores import grid_size
from sam_refine.contract import JudgeKind, LimitExceededError
from sam_refine.service.memory import Memory
from sam_refine.service.request import RefineRequest, bytes_of_maps

BYTES_PER_PIXEL: Final = 20
"""Of the image, at the peak of a request; measured 10 to 16 on images of 8 to 67 megapixels."""
BYTES_PER_JUDGED_PIXEL: Final = 90
"""Likewise with a judge where every pixel may change; measured 60 to 73."""
_MIB: Final = 2**20


class NoRoomError(Exception):
    """There is not enough free memory at the moment."""


def check_room(
    request: RefineRequest,
    outputs: Collection[str],
    memory: Memory,
    shared_memory_bytes: int | None = None,
) -> None:
    """Raises `LimitExceededError` where there can never be room, `NoRoomError` where there is none.

    `shared_memory_bytes` is the size of /dev/shm, None where nothing goes through it.
    """
    output_bytes = sum(bytes_of_maps(outputs, request.scores).values())
    if shared_memory_bytes is not None and output_bytes > shared_memory_bytes:
        raise LimitExceededError(
            f"the outputs need {_mib(output_bytes)} of shared memory, and the server has "
            f"{_mib(shared_memory_bytes)} in all; ask for less, or give /dev/shm more"
        )
    needed_bytes = output_bytes + _work_bytes(request)
    if needed_bytes > memory.total_bytes:
        raise LimitExceededError(
            f"the work needs about {_mib(needed_bytes)} of memory, and the server has "
            f"{_mib(memory.total_bytes)} in all; ask for less, or give it more"
        )
    if needed_bytes > memory.free_bytes:
        raise NoRoomError(
            f"the work needs about {_mib(needed_bytes)} of memory, and "
            f"{_mib(memory.free_bytes)} are free now"
        )


def _work_bytes(request: RefineRequest) -> int:
    """On top of inputs and outputs."""
    height, width = request.scores.size_image
    grid_height, grid_width = grid_size((height, width), request.options.downsample_ratio)
    is_judged = request.options.judge is not JudgeKind.NONE
    per_pixel = BYTES_PER_JUDGED_PIXEL if is_judged else BYTES_PER_PIXEL
    return per_pixel * height * width + 4 * len(request.scores) * grid_height * grid_width


def _mib(count: int) -> str:
    return f"{-(-count // _MIB)} MiB"
