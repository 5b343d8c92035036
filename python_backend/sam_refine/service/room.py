"""Whether there is room for a request, before its work is begun: memory, and /dev/shm of a server.

What is not refused here and finds no memory ends the process that works on it, and the next try of
the same request the next one. What finds no shared memory Triton refuses, after the work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from sam_refine.algorithm.scores import grid_size
from sam_refine.contract import MOST_PROMPTS, JudgeKind, LimitExceededError, Tensors
from sam_refine.service.budget import Budget, Needs, Promised
from sam_refine.service.memory import Memory, shared_memory, system_memory
from sam_refine.service.request import RefineRequest
from sam_refine.service.shared_tensors import SharedTensors
from sam_refine.service.stub_region import region_bytes, sibling_bytes

BYTES_PER_PIXEL: Final = 20
"""Of the image, at the peak of a request; measured 10 to 16 on images of 8 to 67 megapixels."""
BYTES_PER_JUDGED_PIXEL: Final = 90
"""Likewise with a judge where every pixel may change; measured 60 to 73."""
OUTPUT_COPIES: Final = 3
"""Of a server's outputs, besides the one in shared memory: the array, Triton's answer, and the
message that gRPC makes of it; all four together measured as 4.0 with scores of 512 MiB."""
_MIB: Final = 2**20


class NoRoomError(Exception):
    """There is not enough free memory at the moment."""


@contextmanager
def room(
    request: RefineRequest,
    tensors: Tensors,
    outputs: Collection[str],
    budget: Budget,
    *,
    shares_memory: bool,
) -> Iterator[int]:
    """Hold room for a request that was made of `tensors`; give the most prompts of a decoder call.

    `shares_memory` is whether its tensors go through /dev/shm. Raises `LimitExceededError` where
    there can never be room, `NoRoomError` where there is none now.
    """
    sent = SharedTensors.of(request, tensors, outputs)
    prompts = MOST_PROMPTS

    def choose(promised: Promised) -> Needs:
        nonlocal prompts
        needs = Needs(_work_bytes(request) + sent.output_bytes)
        shared = shared_memory() if shares_memory else None
        if shared is not None:
            region = region_bytes(budget.region)
            callees = sibling_bytes(budget.region, promised.regions)
            growth_bytes = partial(sent.growth_bytes, region, callees)
            prompts = _most_prompts(growth_bytes, shared.free_bytes - promised.shared_bytes)
            shared_bytes = growth_bytes(prompts)
            check_shared_memory(sent.least_bytes(), shared_bytes, shared, promised.shared_bytes)
            needs = Needs(
                _work_bytes(request) + OUTPUT_COPIES * sent.output_bytes + shared_bytes,
                shared_bytes,
                sent.answer_growth_bytes(region),
            )
        check_memory(needs.memory_bytes, system_memory(), promised.memory_bytes)
        return needs

    with budget.reserved(choose):
        yield prompts


def check_shared_memory(
    least_bytes: int, needed_bytes: int, shared: Memory, promised_bytes: int
) -> None:
    """Hold against /dev/shm what a request needs at least, and what it needs now, in bytes.

    Raises `LimitExceededError` and `NoRoomError`.
    """
    if least_bytes > shared.total_bytes:
        raise LimitExceededError(
            f"the tensors need about {_mib(least_bytes)} of shared memory, and the server has "
            f"{_mib(shared.total_bytes)} in all; ask for less, or give /dev/shm more"
        )
    free_bytes = shared.free_bytes - promised_bytes
    if needed_bytes > free_bytes:
        raise NoRoomError(
            f"the tensors need about {_mib(needed_bytes)} more of shared memory, and "
            f"{_mib(max(0, free_bytes))} are free now"
        )


def check_memory(needed_bytes: int, memory: Memory, promised_bytes: int) -> None:
    """Hold the bytes that a request needs against memory, likewise."""
    if needed_bytes > memory.total_bytes:
        raise LimitExceededError(
            f"the work needs about {_mib(needed_bytes)} of memory, and the server has "
            f"{_mib(memory.total_bytes)} in all; ask for less, or give it more"
        )
    free_bytes = memory.free_bytes - promised_bytes
    if needed_bytes > free_bytes:
        raise NoRoomError(
            f"the work needs about {_mib(needed_bytes)} of memory, and "
            f"{_mib(max(0, free_bytes))} are free now"
        )


def _most_prompts(growth_bytes: Callable[[int], int], free_bytes: int) -> int:
    """As many as find room in half of what is free, so that other requests find some too."""
    prompts = MOST_PROMPTS
    while prompts > 1 and growth_bytes(prompts) > free_bytes // 2:
        prompts //= 2
    return prompts


def _work_bytes(request: RefineRequest) -> int:
    """On top of inputs and outputs."""
    height, width = request.scores.size_image
    grid_height, grid_width = grid_size((height, width), request.options.downsample_ratio)
    is_judged = request.options.judge is not JudgeKind.NONE
    per_pixel = BYTES_PER_JUDGED_PIXEL if is_judged else BYTES_PER_PIXEL
    return per_pixel * height * width + 4 * len(request.scores) * grid_height * grid_width


def _mib(count: int) -> str:
    return f"{-(-count // _MIB)} MiB"
