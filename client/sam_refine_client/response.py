"""Which tensors of `contract.SAM_REFINE` a call asks for, and what it makes of those that come."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

import numpy as np

from sam_refine.contract import STAGES, InvalidRequestError, RefineOptions, Tensors
from sam_refine_client.result import Labels, RefineResult, Region

Output = Literal["labels", "coarse_labels", "logits", "regions"]

_REGIONS: Final = (
    "REGION_CLASSES",
    "REGION_BOXES",
    "REGION_SCORES",
    "REGION_IOUS",
    "REGION_KEPT",
)


def output_names(
    outputs: Collection[Output], classes: int, options: RefineOptions
) -> tuple[str, ...]:
    """The tensors of some outputs; labels take one byte per pixel where each fits into one."""
    if isinstance(outputs, str):
        raise InvalidRequestError(f"outputs must be several names, got the text {outputs!r}")
    is_small = classes <= 256 and 0 <= (options.ignore_label or 0) <= 255
    suffix = "_UINT8" if is_small else ""
    tensors = {
        "labels": (f"REFINED_LABELS{suffix}",),
        "coarse_labels": (f"COARSE_LABELS{suffix}",),
        "logits": ("REFINED_LOGITS",),
        "regions": _REGIONS,
    }
    for output in outputs:
        if output not in tensors:
            raise InvalidRequestError(f"outputs must be among {', '.join(tensors)}, got {output!r}")
    names = [name for output in dict.fromkeys(outputs) for name in tensors[output]]
    return (*names, "STAGE_TIMES_MS")


def result_of(tensors: Tensors, request_id: str) -> RefineResult:
    """The outputs of `contract.SAM_REFINE` that came."""
    return RefineResult(
        labels=_labels(tensors, "REFINED_LABELS"),
        coarse_labels=_labels(tensors, "COARSE_LABELS"),
        logits=tensors.get("REFINED_LOGITS"),
        regions=_regions(tensors) if "REGION_KEPT" in tensors else None,
        timings=dict(zip(STAGES, tensors["STAGE_TIMES_MS"].tolist(), strict=True)),
        request_id=request_id,
    )


def _labels(tensors: Tensors, name: str) -> Labels | None:
    labels = tensors.get(f"{name}_UINT8", tensors.get(name))
    return None if labels is None else labels.astype(np.int32, copy=False)


def _regions(tensors: Tensors) -> tuple[Region, ...]:
    columns = (tensors[name].tolist() for name in _REGIONS)
    return tuple(
        Region(class_id, tuple(box), score, predicted_iou, kept)
        for class_id, box, score, predicted_iou, kept in zip(*columns, strict=True)
    )
