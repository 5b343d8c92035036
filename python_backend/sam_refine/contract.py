"""The interface between callers, Triton models and exported networks, as data.

Tensor names, datatypes, shapes, request options and deployment limits are written down here and
nowhere else; every `config.pbtxt`, every exported ONNX graph and the client are held to this file
by tests. Needs numpy and the standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, SupportsFloat, SupportsInt, TypeAlias, TypeVar

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


class InvalidRequestError(ValueError):
    """A request breaks a rule of this contract: one sentence with field, rule and what came."""


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

MODELS: Final = (SAM_REFINE, SAM_EMBED, SAM_PREPROCESS, SAM_IMAGE_ENCODER, SAM_MASK_DECODER)


# --- Options of a request --------------------------------------------------------------------

IMAGE_ID: Final = "image_id"
"""Request parameter: the caller's own name of an image, 1 to 256 characters. A later request with
the same name and image size takes the embedding of the first and does not look at its pixels."""
MAX_IMAGE_ID: Final = 256
_INT32: Final = np.iinfo(np.int32)


class MaskPrompt(str, Enum):
    """How a class's scores go to SAM as a mask prompt."""

    NONE = "none"
    """No mask prompt: SAM's own no-mask embedding."""
    SAM = "sam"
    """As Meta wrote it: layer norms over channels."""
    TRIDENT = "trident"
    """As the published code calls it, without the batch axis: layer norms over image rows."""

    @property
    def mode(self) -> int:
        """The value of the decoder's `mask_prompt_mode`."""
        return {MaskPrompt.NONE: 0, MaskPrompt.SAM: 1, MaskPrompt.TRIDENT: 2}[self]


class FailedRegions(str, Enum):
    """What happens where a region's predicted IoU was too low."""

    SCORES_ONLY = "scores_only"
    """Coarse scores return to the refined scores; labels stay as refined (as published)."""
    COMPETE = "compete"
    """Also, the coarse label wins where max_c L > max_c L' (a tie keeps the refined label)."""
    KEEP_COARSE = "keep_coarse"
    """Also, every failed region keeps its coarse label."""


@dataclass(frozen=True)
class RefineOptions:
    """Options of one request; the defaults are the algorithm as published.

    Raises `InvalidRequestError` for a value outside its range.
    """

    downsample_ratio: int = field(default=2, metadata={"range": (1, 64)})
    """r: the working grid has one cell for r x r pixels."""
    confidence_threshold: float = field(default=0.0, metadata={"range": (0.0, MAX_SCORE)})
    """tau_c: scores below it belong to no region. 0 switches the reject class off."""
    iou_threshold: float = field(default=0.8, metadata={"range": (0.0, 1.0)})
    """tau_iou: a region is kept where SAM's predicted IoU is greater."""
    mask_prompt: MaskPrompt = MaskPrompt.TRIDENT
    """Default as published; on CamVid it also measured better than `sam` at every threshold."""
    mask_prompt_scale: float = field(default=0.005, metadata={"range": (0.0, 1e6)})
    """tau_m: factor of the mask prompt."""
    min_region_area: int = field(default=0, metadata={"range": (0, _INT32.max)})
    """Smaller components, in grid cells, are no regions. The published runs used 225."""
    failed_regions: FailedRegions = FailedRegions.SCORES_ONLY
    multimask_output: bool = False
    """Take the best of SAM's masks 1..3 by predicted IoU instead of its single mask 0."""
    max_regions: int | None = field(default=None, metadata={"range": (1, _INT32.max)})
    """Refuse maps of more regions; None leaves it to the deployment's limit."""
    ignore_label: int | None = field(default=None, metadata={"range": (_INT32.min, _INT32.max)})
    """Pixels of this label are never split and keep it; it may lie outside [0, C)."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        for name in ("downsample_ratio", "min_region_area"):
            set_(self, name, _integer(name, getattr(self, name), *self.range_of(name)))
        for name in ("confidence_threshold", "iou_threshold", "mask_prompt_scale"):
            set_(self, name, _number(name, getattr(self, name), *self.range_of(name)))
        set_(self, "mask_prompt", choice("mask_prompt", self.mask_prompt, MaskPrompt))
        set_(self, "failed_regions", choice("failed_regions", self.failed_regions, FailedRegions))
        set_(self, "multimask_output", _boolean("multimask_output", self.multimask_output))
        for name in ("max_regions", "ignore_label"):
            if getattr(self, name) is not None:
                set_(self, name, _integer(name, getattr(self, name), *self.range_of(name)))

    @classmethod
    def range_of(cls, name: str) -> tuple[Any, Any]:
        """Lowest and highest value of an option that is a number; raises `KeyError` for others."""
        for option in fields(cls):
            if option.name == name and "range" in option.metadata:
                low, high = option.metadata["range"]
                return low, high
        raise KeyError(f"{name} is no option with a range")

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, object]) -> RefineOptions:
        """Read request parameters; a value may also come as its decimal text.

        Raises `InvalidRequestError` for an unknown name or a value outside its range.
        """
        known = {option.name for option in fields(cls)}
        for name in parameters:
            if name not in known:
                raise InvalidRequestError(
                    f"parameter {_shown(name)} is not an option; the options are "
                    f"{', '.join(sorted(known))}, and {IMAGE_ID} beside them"
                )
        return cls(**dict(parameters))  # type: ignore[arg-type]

    def to_parameters(self) -> dict[str, str | int | float | bool]:
        """As request parameters; options that are None are left out."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in values.items()
            if value is not None
        }


# --- Limits of a deployment ------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What one deployment accepts: `parameters` of `sam_refine/config.pbtxt`, by field name."""

    max_image_pixels: int = 8192 * 8192
    """H * W of an image."""
    max_image_side: int = 16384
    """H and W of an image."""
    max_classes: int = 4096
    """C of the scores."""
    max_grid_scores: int = 2**28
    """C * h_d * w_d: class scores on the working grid."""
    max_regions: int = 4096
    """Q: regions of one coarse map; each is a prompt for the decoder."""
    max_cached_embeddings: int = field(default=64, metadata={"minimum": 0})
    """Image embeddings kept for later requests on the same image, 4 MiB each; 0 keeps none."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            minimum = limit.metadata.get("minimum", 1)
            value = _integer(limit.name, getattr(self, limit.name), minimum)
            object.__setattr__(self, limit.name, value)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> Limits:
        """Read a model's config parameters; names that are no limits are left to others."""
        known = {limit.name for limit in fields(cls)}
        return cls(**{k: v for k, v in parameters.items() if k in known})  # type: ignore[arg-type]


class ArrayLibrary(str, Enum):
    """What computes in a deployment: `array_library` of `sam_refine/config.pbtxt`."""

    NUMPY = "numpy"
    """On the CPU; embeddings and masks of networks on a GPU are copied to it."""
    TORCH = "torch"
    """On the GPU if torch sees one, so that those stay there; else on the CPU."""

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> ArrayLibrary:
        """Read a model's config parameters; without one it is numpy."""
        name = parameters.get("array_library", cls.NUMPY.value)
        return choice("array_library", name, cls, "numpy or torch")


# --- Checks of single values -----------------------------------------------------------------

E = TypeVar("E", bound=Enum)


def choice(name: str, value: object, choices: type[E], rule: str | None = None) -> E:
    """The member of an enum that `value` is, or is the value of.

    Raises `InvalidRequestError`, which says that `name` must be `rule`: by default one of the
    choices' values as Python writes them.
    """
    try:
        return choices(value)
    except ValueError:
        rule = rule or f"one of {', '.join(repr(choice.value) for choice in choices)}"
        raise InvalidRequestError(f"{name} must be {rule}, got {_shown(value)}") from None


def _integer(name: str, value: object, low: int, high: int | None = None) -> int:
    try:
        number = _integral(value)
        if number < low or (high is not None and number > high):
            raise ValueError(value)
    except (TypeError, ValueError, OverflowError):
        rule = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise InvalidRequestError(
            f"{name} must be an integer {rule}, got {_shown(value)}"
        ) from None
    return number


def _integral(value: object) -> int:
    """An int, an integral float (JSON has no other numbers) or the decimal text of an int."""
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", value):
            raise ValueError(value)
        return int(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsInt):
        raise TypeError(value)
    if int(value) != value:
        raise ValueError(value)
    return int(value)


def _number(name: str, value: object, low: float, high: float) -> float:
    try:
        if isinstance(value, bool | np.bool_) or not isinstance(value, str | SupportsFloat):
            raise TypeError(value)
        number = float(value)
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError(value)
    except (TypeError, ValueError, OverflowError):
        rule = f"in [{low:g}, {high:g}]"
        raise InvalidRequestError(
            f"{name} must be a finite number {rule}, got {_shown(value)}"
        ) from None
    return number


def _boolean(name: str, value: object) -> bool:
    texts = {"true": True, "false": False}
    flag = texts.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool | np.bool_):
        raise InvalidRequestError(f"{name} must be true or false, got {_shown(value)}")
    return bool(flag)


def _shown(value: object) -> str:
    """A caller's value for a message: no longer than a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
