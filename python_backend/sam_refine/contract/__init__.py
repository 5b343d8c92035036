"""The interface between callers, Triton models and exported networks, as data.

Tensor names, datatypes, shapes, request options and deployment limits are written down here and
nowhere else; every `config.pbtxt`, every exported ONNX graph and the client are held to this
package by tests. Needs numpy and the standard library only.
"""

from sam_refine.contract.checks import (
    InvalidOptionError,
    InvalidRequestError,
    LimitExceededError,
    choice,
)
from sam_refine.contract.judging import (
    CHANGE_FEATURES,
    MASK_FEATURES,
    MOST_CHANGES,
    MOST_MASKS,
    SAM_MASK_JUDGE,
)
from sam_refine.contract.limits import (
    MAX_MESSAGE_BYTES,
    MAX_SCORE,
    NETWORKS_SHA256,
    ArrayLibrary,
    Limits,
)
from sam_refine.contract.models import (
    MODELS,
    SAM_EMBED,
    SAM_PREPROCESS,
    SAM_REFINE,
)
from sam_refine.contract.options import (
    IMAGE_ID,
    MAX_IMAGE_ID,
    PRESET,
    FailedRegions,
    JudgeKind,
    MaskPrompt,
    RefineOptions,
)
from sam_refine.contract.outputs import (
    EVERY_CALL,
    OUTPUTS,
    REGIONS,
    STAGES,
    Outcome,
    OutputRow,
)
from sam_refine.contract.presets import (
    PRESET_HELP,
    PRESETS,
)
from sam_refine.contract.rows import (
    OptionRow,
)
from sam_refine.contract.tensors import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    EMBEDDING_SHAPE,
    MASK_SIDE,
    MODEL_SIDE,
    MOST_POINTS,
    MOST_PROMPTS,
    POINT_POSITIVE,
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    MaskChoice,
    MaskPromptMode,
    ModelSpec,
    Tensors,
    TensorSpec,
)

__all__ = [
    "BOX_BOTTOM_RIGHT",
    "BOX_TOP_LEFT",
    "CHANGE_FEATURES",
    "EMBEDDING_SHAPE",
    "EVERY_CALL",
    "IMAGE_ID",
    "MASK_FEATURES",
    "MASK_SIDE",
    "MAX_IMAGE_ID",
    "MAX_MESSAGE_BYTES",
    "MAX_SCORE",
    "MODELS",
    "MODEL_SIDE",
    "MOST_CHANGES",
    "MOST_MASKS",
    "MOST_POINTS",
    "MOST_PROMPTS",
    "NETWORKS_SHA256",
    "OUTPUTS",
    "POINT_POSITIVE",
    "PRESET",
    "PRESETS",
    "PRESET_HELP",
    "REGIONS",
    "SAM_EMBED",
    "SAM_IMAGE_ENCODER",
    "SAM_MASK_DECODER",
    "SAM_MASK_JUDGE",
    "SAM_PREPROCESS",
    "SAM_REFINE",
    "STAGES",
    "ArrayLibrary",
    "FailedRegions",
    "InvalidOptionError",
    "InvalidRequestError",
    "JudgeKind",
    "LimitExceededError",
    "Limits",
    "MaskChoice",
    "MaskPrompt",
    "MaskPromptMode",
    "ModelSpec",
    "OptionRow",
    "Outcome",
    "OutputRow",
    "RefineOptions",
    "TensorSpec",
    "Tensors",
    "choice",
]
