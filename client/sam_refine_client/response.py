"""Which tensors of `contract.SAM_REFINE` a call asks for, and the result of those that come."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, get_args

import numpy.typing as npt

from sam_refine.contract import (
    EVERY_CALL,
    OUTPUTS,
    REGIONS,
    STAGES,
    InvalidRequestError,
    OutputRow,
    RefineOptions,
    Tensors,
)
from sam_refine_client.result import RefineResult, Region

Output = Literal["labels", "coarse_labels", "logits", "regions"]


def output_names(
    outputs: Collection[Output], classes: int, options: RefineOptions
) -> tuple[str, ...]:
    """The tensors of some outputs; labels take one byte per pixel if each of them fits into one.

    Raises `InvalidRequestError` for an unknown output.
    """
    if isinstance(outputs, str):
        raise InvalidRequestError(f"outputs must be several names, got the text {outputs!r}")
    known = get_args(Output)
    for output in outputs:
        if output not in known:
            raise InvalidRequestError(f"outputs must be among {', '.join(known)}, got {output!r}")
    is_small = classes <= 256 and 0 <= (options.ignore_label or 0) <= 255
    return tuple(
        (row.uint8_tensor if is_small and row.uint8_tensor else row.tensor).name
        for output in (*dict.fromkeys(outputs), EVERY_CALL)
        for row in OUTPUTS
        if row.asked_by == output
    )


def result_of(tensors: Tensors, request_id: str) -> RefineResult:
    """The result of the outputs of `contract.SAM_REFINE` that came."""
    maps: dict[str, Any] = {row.field: _map(tensors, row) for row in OUTPUTS if row.is_map}
    return RefineResult(
        **maps,
        regions=_regions(tensors),
        timings=dict(zip(STAGES, tensors["STAGE_TIMES_MS"].tolist(), strict=True)),
        request_id=request_id,
    )


def _map(tensors: Tensors, row: OutputRow) -> npt.NDArray[Any] | None:
    """In the dtype of the row's first tensor, whichever of them came; None if none did."""
    for tensor in row.tensors:
        if tensor.name in tensors:
            return tensors[tensor.name].astype(row.tensor.dtype, copy=False)
    return None


def _regions(tensors: Tensors) -> tuple[Region, ...] | None:
    """None if they were not asked for."""
    rows = [row for row in OUTPUTS if row.asked_by == REGIONS]
    if not all(row.is_in(tensors) for row in rows):
        return None
    columns = [tensors[row.tensor.name].tolist() for row in rows]
    return tuple(
        Region(**{row.field: _hashable(value) for row, value in zip(rows, values, strict=True)})
        for values in zip(*columns, strict=True)
    )


def _hashable(value: Any) -> Any:
    """A region's own value: a row of numbers as a tuple."""
    return tuple(value) if isinstance(value, list) else value
