"""A refinement as the output tensors of `sam_refine`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace

from sam_refine.algorithm.pipeline import Refinement
from sam_refine.contract import Tensors
from sam_refine.numerics.arrays import Array, to_numpy

LABEL_OUTPUTS: Final = frozenset({"REFINED_LABELS", "REFINED_LABELS_UINT8"})

_OUTPUTS: Final[Mapping[str, Callable[[Refinement], Any]]] = MappingProxyType(
    {
        "REFINED_LABELS": lambda refinement: refinement.labels,
        "REFINED_LABELS_UINT8": lambda refinement: _uint8(refinement.labels),
        "REFINED_LOGITS": lambda refinement: refinement.logits,
        "COARSE_LABELS": lambda refinement: refinement.coarse_labels,
        "COARSE_LABELS_UINT8": lambda refinement: _uint8(refinement.coarse_labels),
        "IOU_PREDICTIONS": lambda refinement: refinement.regions.ious[refinement.regions.kept],
        "BOXES": lambda refinement: refinement.regions.boxes_xyxy_image[refinement.regions.kept],
        "REGION_CLASSES": lambda refinement: refinement.regions.classes,
        "REGION_BOXES": lambda refinement: refinement.regions.boxes_xyxy_image,
        "REGION_SCORES": lambda refinement: refinement.regions.scores,
        "REGION_IOUS": lambda refinement: refinement.regions.ious,
        "REGION_KEPT": lambda refinement: refinement.regions.kept,
        "STAGE_TIMES_MS": lambda refinement: refinement.stage_times_ms,
    }
)


def output_tensors(refinement: Refinement, names: Collection[str]) -> Tensors:
    """The named outputs of `contract.SAM_REFINE`, contiguous, with the contract's dtypes."""
    return {
        name: np.ascontiguousarray(to_numpy(read(refinement)))
        for name, read in _OUTPUTS.items()
        if name in names
    }


def _uint8(labels: Array) -> Array:
    """Where the labels are, so that a quarter of the bytes travels."""
    xp = array_namespace(labels)
    return xp.astype(labels, xp.uint8)
