"""Made-up inputs for both graphs, the same on every machine.

The conversion to float16 measures ranges of values on them, and the validation runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy.typing as npt
import torch
from onnxruntime import InferenceSession
from torch import Tensor
from torch.nn import functional

from sam_refine.contract.tensors import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    MASK_SIDE,
    MODEL_SIDE,
    MaskChoice,
    MaskPromptMode,
)

Feeds: TypeAlias = dict[str, npt.NDArray[Any]]
"""A graph's inputs by name."""


def canvases() -> tuple[Tensor, Tensor]:
    """Three images of coloured blocks, each of a different shape, on canvases full of noise.

    uint8 (3, side, side, 3) and int64 (h, w) of each (3, 2).
    """
    random = torch.Generator().manual_seed(0)
    sides = (MODEL_SIDE, MODEL_SIDE, 3)
    canvas = torch.randint(0, 256, (3, *sides), generator=random, dtype=torch.uint8)
    canvas_size = torch.tensor([[683, 1024], [1024, 700], [1024, 1024]])
    for pixels, (height, width) in zip(canvas, canvas_size.tolist(), strict=True):
        blocks = torch.randint(0, 256, (16, 16, 3), generator=random, dtype=torch.uint8)
        image = blocks.repeat_interleave(64, dim=0).repeat_interleave(64, dim=1)
        pixels[:height, :width] = image[:height, :width]
    return canvas, canvas_size


_CHOICES: Final = {
    MaskChoice.SINGLE: "single mask",
    MaskChoice.BEST_OF_THREE: "best of three masks",
    MaskChoice.ALL: "all four masks",
}


@dataclass(frozen=True)
class DecoderCase:
    """Random prompts of one kind."""

    prompts: int
    points: int
    has_box: bool
    mask_prompts: int
    mode: MaskPromptMode
    choice: MaskChoice

    def __str__(self) -> str:
        return (
            f"N = {self.prompts}, P = {self.points + 2 * self.has_box}, K = {self.mask_prompts}, "
            f"mask prompt {self.mode.name.lower()}, "
            f"{_CHOICES[self.choice]}"
        )

    def inputs(self, embedding: Tensor) -> dict[str, Tensor]:
        """The decoder's inputs by name, with an image embedding (1, 256, 64, 64)."""
        random = torch.Generator().manual_seed(0)
        n, k = self.prompts, self.mask_prompts
        coords = torch.rand(n, self.points, 2, generator=random) * MODEL_SIDE
        labels = torch.randint(-1, 2, (n, self.points), generator=random).float()
        if self.has_box:
            corners = torch.rand(n, 2, 2, generator=random).sort(dim=1).values * MODEL_SIDE
            coords = torch.cat([coords, corners], dim=1)
            corner_labels = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]).expand(n, 2)
            labels = torch.cat([labels, corner_labels.float()], dim=1)
        return {
            "image_embedding": embedding,
            "point_coords": coords,
            "point_labels": labels,
            "mask_prompts": _mask_prompts(k, random),
            "mask_index": torch.randint(0, k, (n,), generator=random),
            "mask_prompt_mode": torch.tensor([self.mode]),
            "mask_choice": torch.tensor([self.choice]),
            "iou_threshold": torch.tensor([-torch.inf]),
            "low_res_size": torch.tensor([MASK_SIDE, MASK_SIDE]),
        }


def _mask_prompts(count: int, random: torch.Generator) -> Tensor:
    """(count, 1, 256, 256): noise, and last a smooth mask of large values, as SAM's logits are."""
    noise = torch.randn(count - 1, 1, MASK_SIDE, MASK_SIDE, generator=random)
    coarse = 20 * torch.randn(1, 1, 8, 8, generator=random)
    smooth = functional.interpolate(coarse, (MASK_SIDE, MASK_SIDE), mode="bilinear")
    return torch.cat([noise, smooth])


DECODER_CASES: Final = (
    DecoderCase(1, 1, False, 1, MaskPromptMode.NONE, MaskChoice.SINGLE),
    DecoderCase(1, 0, True, 2, MaskPromptMode.NONE, MaskChoice.BEST_OF_THREE),
    DecoderCase(1, 1, True, 2, MaskPromptMode.SAM, MaskChoice.SINGLE),
    DecoderCase(1, 2, True, 1, MaskPromptMode.TRIDENT, MaskChoice.BEST_OF_THREE),
    DecoderCase(7, 2, True, 3, MaskPromptMode.NONE, MaskChoice.SINGLE),
    DecoderCase(7, 1, False, 1, MaskPromptMode.SAM, MaskChoice.BEST_OF_THREE),
    DecoderCase(7, 1, True, 3, MaskPromptMode.TRIDENT, MaskChoice.SINGLE),
    DecoderCase(32, 1, True, 2, MaskPromptMode.NONE, MaskChoice.BEST_OF_THREE),
    DecoderCase(32, 0, True, 2, MaskPromptMode.SAM, MaskChoice.SINGLE),
    DecoderCase(1, 1, False, 1, MaskPromptMode.TRIDENT, MaskChoice.ALL),
    DecoderCase(7, 1, True, 2, MaskPromptMode.NONE, MaskChoice.ALL),
    DecoderCase(32, 1, True, 3, MaskPromptMode.SAM, MaskChoice.ALL),
)
"""Each mode with one and several prompts, one and several mask prompts, and all choices of mask;
each choice with every N, one and several P."""


def encoder_feeds() -> Iterator[Feeds]:
    """Inputs of the encoder's graph: one canvas after the other."""
    canvas, canvas_size = canvases()
    for i in range(len(canvas)):
        yield {
            "canvas": canvas[i : i + 1].numpy(),
            "canvas_size": canvas_size[i : i + 1].numpy(),
        }


def embed(encoder_onnx: Path) -> Tensor:
    """The embedding that an encoder's graph gives for the first canvas: (1, 256, 64, 64)."""
    session = InferenceSession(encoder_onnx, providers=["CPUExecutionProvider"])
    (embedding,) = session.run(["image_embedding"], next(encoder_feeds()))
    return torch.from_numpy(embedding)


def decoder_feeds(embedding: Tensor) -> Iterator[Feeds]:
    """Inputs of the decoder's graph: one case after the other, all on one image embedding."""
    for case in DECODER_CASES:
        yield {name: tensor.numpy() for name, tensor in case.inputs(embedding).items()}
