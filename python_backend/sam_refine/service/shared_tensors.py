"""What of a request lies in /dev/shm on its way through Triton.

A stub's region takes the request's own tensors before the work begins. What is sent to other models
and comes back, and at the end the outputs, follow one after the other, each in the place of the one
before where that was as large. The regions of the models that are called need the same once more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

from sam_refine.algorithm.postprocess import low_res_size
from sam_refine.contract import MASK_SIDE, JudgeKind, Tensors
from sam_refine.service.request import RefineRequest, bytes_of_maps

_MIB: Final = 2**20
EMPTY_REGION_BYTES: Final = _MIB
"""A stub's region before its first request."""
GROWTH_BYTES: Final = 3 * _MIB
"""By so much more than what it is to take may a region grow; measured: 1 MiB for each tensor that
finds no free block as large as itself, and there are up to three large ones at a time."""
CALLEES_BYTES: Final = 21 * _MIB
"""In the regions of the models that are called, besides images, prompts and masks; measured 20 to
21 with the networks in stubs. In NVIDIA's container they are in none, and this is too much."""
_EMBEDDING_BYTES: Final = 4 * _MIB
_MASK_BYTES: Final = 4 * MASK_SIDE * MASK_SIDE


@dataclass(frozen=True)
class SharedTensors:
    """Bytes of one request's tensors."""

    input_bytes: int
    image_bytes: int
    """As it is sent to be embedded; 0 where it comes as an embedding."""
    classes: int
    """At most so many mask prompts go with a call of the decoder."""
    masks_bytes: int
    """Of what the decoder answers to one prompt."""
    output_bytes: int

    @classmethod
    def of(
        cls, request: RefineRequest, tensors: Tensors, outputs: Collection[str]
    ) -> SharedTensors:
        """Of a request that was made of `tensors` and is to have `outputs`."""
        height, width = low_res_size(request.scores.size_image)
        is_judged = request.options.judge is not JudgeKind.NONE
        return cls(
            input_bytes=sum(map(_bytes, tensors.values())),
            image_bytes=0 if request.image is None else request.image.nbytes,
            classes=len(request.scores),
            masks_bytes=4 * height * width * (4 if is_judged else 1),
            output_bytes=sum(bytes_of_maps(outputs, request.scores).values()),
        )

    def growth_bytes(self, region_bytes: int, callees_bytes: int, prompts: int) -> int:
        """By how much a stub's region of some size, and all those of the models that it calls, will
        grow, with so many prompts in a call of the decoder."""
        image = self.image_bytes + _EMBEDDING_BYTES if self.image_bytes else 0
        masks = min(self.classes, prompts) * _MASK_BYTES + prompts * self.masks_bytes
        decode = _EMBEDDING_BYTES + masks
        grown, free = 0, self._free_bytes(region_bytes)
        for part in (image, decode, self.output_bytes):
            if part > free:
                free = part + GROWTH_BYTES
                grown += free
        callees = CALLEES_BYTES + self.image_bytes + decode
        return grown + max(0, callees - callees_bytes)

    def answer_growth_bytes(self, region_bytes: int) -> int:
        """What of that is for the outputs, which come last, after the work."""
        is_larger = self.output_bytes > self._free_bytes(region_bytes)
        return self.output_bytes + GROWTH_BYTES if is_larger else 0

    def least_bytes(self) -> int:
        """In all, where nothing else has ever been asked of the server."""
        empty_bytes = EMPTY_REGION_BYTES + self.input_bytes
        return empty_bytes + self.growth_bytes(empty_bytes, 0, prompts=1)

    def _free_bytes(self, region_bytes: int) -> int:
        """At the beginning of the work, when the inputs are there."""
        return max(0, region_bytes - EMPTY_REGION_BYTES - self.input_bytes)


def _bytes(tensor: npt.NDArray[Any]) -> int:
    if tensor.dtype == object:  # an encoded image
        return sum(map(len, tensor.ravel()))
    return tensor.nbytes
