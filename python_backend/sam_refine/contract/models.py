"""The models of the repository, each by its inputs and outputs.

The two that are exported graphs are defined in `tensors`, the outputs of `sam_refine` in `outputs`.
Needs numpy and the standard library only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sam_refine.contract.outputs import OUTPUTS
from sam_refine.contract.tensors import (
    EMBEDDING_SHAPE,
    MODEL_SIDE,
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    ModelSpec,
    TensorSpec,
)

_IMAGE = TensorSpec("IMAGE", "UINT8", ("H", "W", 3), optional=True)
_ENCODED_IMAGE = TensorSpec("ENCODED_IMAGE", "BYTES", (1,), optional=True)
_EMBEDDING = TensorSpec("EMBEDDING", "FP32", (1, *EMBEDDING_SHAPE))
_IMAGE_SIZE = TensorSpec("IMAGE_SIZE", "INT64", (2,))

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
    outputs=tuple(tensor for row in OUTPUTS for tensor in row.tensors),
)
"""What callers call. One of IMAGE, ENCODED_IMAGE, EMBEDDING with IMAGE_SIZE (H, W); one of LOGITS,
LOGITS_FP16; LABELS if the coarse map is not the argmax of the scores. COARSE_LABELS is the map that
was refined; the UINT8 outputs need C <= 256. Boxes are in image pixels."""

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

MODELS: Final = (SAM_REFINE, SAM_EMBED, SAM_PREPROCESS, SAM_IMAGE_ENCODER, SAM_MASK_DECODER)
