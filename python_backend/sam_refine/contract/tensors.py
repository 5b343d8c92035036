"""What a tensor and a model are, and the two models that are exported graphs.

This module decides how a graph comes out: a change here makes every export out of date. What
concerns requests alone is in `models` and `outputs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

# --- SAM's fixed sizes (segment-anything build_sam.py) ---------------------------------------

MODEL_SIDE: Final = 1024
"""Side of the canvas that SAM's image encoder sees, pixels."""
EMBEDDING_SHAPE: Final = (256, 64, 64)
"""Channels and grid of an image embedding."""
MASK_SIDE: Final = 256
"""Side of a mask prompt and of a low-resolution mask."""

POINT_POSITIVE: Final = 1
BOX_TOP_LEFT: Final = 2
BOX_BOTTOM_RIGHT: Final = 3
"""Labels of SAM's prompt points; -1 is padding, 0 a negative point. A box is two points."""

MOST_PROMPTS: Final = 32
"""Of one call of the mask decoder, as Algorithm 4 has it: more make no decoder faster."""
MOST_POINTS: Final = 16
"""Of a prompt; a box is two."""

# --- Tensors and models ----------------------------------------------------------------------

Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""A call's inputs or outputs by name; BYTES as objects."""

_NUMPY_DTYPES: Final[Mapping[str, npt.DTypeLike]] = MappingProxyType(
    {
        "BOOL": np.bool_,
        "UINT8": np.uint8,
        "INT32": np.int32,
        "INT64": np.int64,
        "FP16": np.float16,
        "FP32": np.float32,
        "BYTES": np.object_,
    }
)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    `datatype` is Triton's name. `shape` has numbers for fixed sizes and letters (see the package
    docstring) for sizes that vary; a model's batch axis is not part of it.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...]
    optional: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape as Triton writes it: -1 where the size varies."""
        return tuple(size if isinstance(size, int) else -1 for size in self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of `datatype` (object for BYTES)."""
        return np.dtype(_NUMPY_DTYPES[self.datatype])


@dataclass(frozen=True)
class ModelSpec:
    """One model of the repository. `batched` models have a leading batch axis on every tensor."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = False

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.outputs)


SAM_IMAGE_ENCODER: Final = ModelSpec(
    "sam_image_encoder",
    inputs=(
        TensorSpec("canvas", "UINT8", (MODEL_SIDE, MODEL_SIDE, 3)),
        TensorSpec("canvas_size", "INT64", (2,)),
    ),
    outputs=(TensorSpec("image_embedding", "FP32", EMBEDDING_SHAPE),),
    batched=True,
)
"""SAM's image encoder on an RGB canvas. What lies outside `canvas_size` (h, w) counts as SAM's zero
padding after normalisation, which no uint8 value can express; hence the second input."""

SAM_MASK_DECODER: Final = ModelSpec(
    "sam_mask_decoder",
    inputs=(
        TensorSpec("image_embedding", "FP32", (1, *EMBEDDING_SHAPE)),
        TensorSpec("point_coords", "FP32", ("N", "P", 2)),
        TensorSpec("point_labels", "FP32", ("N", "P")),
        TensorSpec("mask_prompts", "FP32", ("K", 1, MASK_SIDE, MASK_SIDE)),
        TensorSpec("mask_index", "INT64", ("N",)),
        TensorSpec("mask_prompt_mode", "INT64", (1,)),
        TensorSpec("mask_choice", "INT64", (1,)),
        TensorSpec("iou_threshold", "FP32", (1,)),
        TensorSpec("low_res_size", "INT64", (2,)),
    ),
    outputs=(
        TensorSpec("low_res_logits", "FP32", ("V", "M", "h_l", "w_l")),
        TensorSpec("iou_predictions", "FP32", ("N", "M")),
    ),
)
"""SAM's prompt encoder and mask decoder: one image, N prompts, each naming one of K mask prompts;
M masks of each, 4 where `mask_choice` is `ALL`, else 1; masks of the V prompts, in their order, of
which one has a predicted IoU above the threshold, and of these the upper left part of
`low_res_size` (h_l, w_l), multiples of 4 up to 256. Points are (x, y) pixels
of the 1024 canvas; the graph itself adds SAM's half pixel."""


class MaskPromptMode(IntEnum):
    """Values of the decoder's `mask_prompt_mode`: what it makes of its mask prompts."""

    NONE = 0
    """Ignores them: SAM's own no-mask embedding."""
    SAM = 1
    """Embeds them as Meta's code does: layer norms over channels."""
    TRIDENT = 2
    """Embeds them as Meta's code does a mask without its batch axis: layer norms over rows."""


class MaskChoice(IntEnum):
    """Values of the decoder's `mask_choice`: which of SAM's four masks of a prompt it returns."""

    SINGLE = 0
    """The one that SAM means for a prompt that leaves no doubt."""
    BEST_OF_THREE = 1
    """Of the other three, the one with the highest predicted IoU."""
    ALL = 2
    """All four, the single one first."""
