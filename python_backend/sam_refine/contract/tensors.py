"""Tensors and models: names, datatypes, shapes. All that an exported graph is held to.

Needs numpy and the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
MAX_SCORE: Final = 1e30
"""Largest magnitude of a class score: sums and differences of such stay finite in float32."""
MAX_MESSAGE_BYTES: Final = 2**31 - 1
"""What one gRPC message can carry; no tensor may be larger."""

POINT_POSITIVE: Final = 1
BOX_TOP_LEFT: Final = 2
BOX_BOTTOM_RIGHT: Final = 3
"""Labels of SAM's prompt points; -1 is padding, 0 a negative point. A box is two points."""

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


_IMAGE = TensorSpec("IMAGE", "UINT8", ("H", "W", 3), optional=True)
_ENCODED_IMAGE = TensorSpec("ENCODED_IMAGE", "BYTES", (1,), optional=True)
_EMBEDDING = TensorSpec("EMBEDDING", "FP32", (1, *EMBEDDING_SHAPE))
_IMAGE_SIZE = TensorSpec("IMAGE_SIZE", "INT64", (2,))

STAGES: Final = ("downsample", "split_regions", "embed", "prompts", "decode", "merge")
"""What `STAGE_TIMES_MS` measures, in order: coarse labels and scores on the working grid; regions;
image to embedding; mask prompts and prompt coordinates; mask decoder; merging the maps. A stage
that a request had no need of took 0."""

SAM_REFINE: Final = ModelSpec(
    "sam_refine",
    inputs=(
        _IMAGE,
        _ENCODED_IMAGE,
        replace(_EMBEDDING, optional=True),
        replace(_IMAGE_SIZE, optional=True),
        TensorSpec("LOGITS", "FP32", ("C", "h", "w"), optional=True),
        TensorSpec("LOGITS_FP16", "FP16", ("C", "h", "w"), optional=True),
        TensorSpec("LABELS", "INT32", ("H", "W"), optional=True),
    ),
    outputs=(
        TensorSpec("REFINED_LABELS", "INT32", ("H", "W")),
        TensorSpec("REFINED_LABELS_UINT8", "UINT8", ("H", "W")),
        TensorSpec("REFINED_LOGITS", "FP32", ("C", "H", "W")),
        TensorSpec("COARSE_LABELS", "INT32", ("H", "W")),
        TensorSpec("COARSE_LABELS_UINT8", "UINT8", ("H", "W")),
        TensorSpec("IOU_PREDICTIONS", "FP32", ("N",)),
        TensorSpec("BOXES", "INT32", ("N", 4)),
        TensorSpec("REGION_CLASSES", "INT32", ("Q",)),
        TensorSpec("REGION_BOXES", "INT32", ("Q", 4)),
        TensorSpec("REGION_SCORES", "FP32", ("Q",)),
        TensorSpec("REGION_IOUS", "FP32", ("Q",)),
        TensorSpec("REGION_KEPT", "BOOL", ("Q",)),
        TensorSpec("STAGE_TIMES_MS", "FP32", (len(STAGES),)),
    ),
)
"""What callers call. One of IMAGE, ENCODED_IMAGE, EMBEDDING with IMAGE_SIZE (H, W); one of LOGITS,
LOGITS_FP16; LABELS where the coarse map is not the argmax of the scores. COARSE_LABELS is the map
that was refined; the UINT8 outputs need C <= 256. Boxes are in image pixels."""

SAM_EMBED: Final = ModelSpec(
    "sam_embed", inputs=(_IMAGE, _ENCODED_IMAGE), outputs=(_EMBEDDING, _IMAGE_SIZE)
)
"""Ensemble: one of IMAGE, ENCODED_IMAGE to its embedding and its size (H, W)."""

SAM_PREPROCESS: Final = ModelSpec(
    "sam_preprocess",
    inputs=(_IMAGE, _ENCODED_IMAGE),
    outputs=(
        TensorSpec("CANVAS", "UINT8", (1, MODEL_SIDE, MODEL_SIDE, 3)),
        TensorSpec("CANVAS_SIZE", "INT64", (1, 2)),
        _IMAGE_SIZE,
    ),
)
"""The image at longest side 1024 in the top left corner of a canvas, and its size (h, w) there."""

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
        TensorSpec("multimask_output", "BOOL", (1,)),
        TensorSpec("iou_threshold", "FP32", (1,)),
        TensorSpec("low_res_size", "INT64", (2,)),
    ),
    outputs=(
        TensorSpec("low_res_logits", "FP32", ("V", 1, "h_l", "w_l")),
        TensorSpec("iou_predictions", "FP32", ("N", 1)),
    ),
)
"""SAM's prompt encoder and mask decoder: one image, N prompts, each naming one of K mask prompts;
masks of the V prompts, in their order, whose predicted IoU is above the threshold, and of these
the upper left part of `low_res_size` (h_l, w_l), multiples of 4 up to 256. Points are (x, y) pixels
of the 1024 canvas; the graph itself adds SAM's half pixel."""


class MaskPromptMode(IntEnum):
    """Values of the decoder's `mask_prompt_mode`: what it makes of its mask prompts."""

    NONE = 0
    """Ignores them: SAM's own no-mask embedding."""
    SAM = 1
    """Embeds them as Meta's code does: layer norms over channels."""
    TRIDENT = 2
    """Embeds them as Meta's code does a mask without its batch axis: layer norms over rows."""


MODELS: Final = (SAM_REFINE, SAM_EMBED, SAM_PREPROCESS, SAM_IMAGE_ENCODER, SAM_MASK_DECODER)
