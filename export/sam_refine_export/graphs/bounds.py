"""Bounds in the graphs themselves: whoever calls a network gets an error instead of its memory.

Triton checks ranks and types of an input, not how large it is; and every model of a server can be
called by whoever can call one. So each graph counts what is out of bounds before it works:

    bad = ReduceSum(not (low <= value <= high))
    guard = Reshape([0], [1 + bad])            one 0, or an error that names the bound
    input' = input + guard

A shape lies in the memory of the host and is checked there, whatever device runs the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from sam_refine.contract.tensors import (
    MASK_SIDE,
    MODEL_SIDE,
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    MaskChoice,
    MaskPromptMode,
)

MOST_PROMPTS: Final = 32
"""Of one call of the decoder; the pipeline never sends more."""
MOST_POINTS: Final = 16
"""Of a prompt; a box is two."""
LARGEST_COORDINATE: Final = 1e6
"""In pixels of the canvas: NaN is not smaller."""


@dataclass(frozen=True)
class Bound:
    """The values of an input, or one of its sizes, lie in [low, high]."""

    tensor: str
    low: float
    high: float
    axis: int | None = None
    """The axis whose size is meant; None means the values."""
    is_float: bool = False

    @property
    def name(self) -> str:
        """As an error message has it."""
        what = self.tensor if self.axis is None else f"size {self.axis} of {self.tensor}"
        return f"{what} must be in [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class SameSize:
    """Two inputs have the same number along an axis each."""

    tensor: str
    axis: int
    other: str
    other_axis: int

    @property
    def name(self) -> str:
        """As an error message has it."""
        return f"size {self.axis} of {self.tensor} must be size {self.other_axis} of {self.other}"


_BOUNDS: Final[dict[str, tuple[Bound | SameSize, ...]]] = {
    SAM_IMAGE_ENCODER.name: (Bound("canvas_size", 0, MODEL_SIDE),),
    SAM_MASK_DECODER.name: (
        Bound("point_coords", 0, MOST_PROMPTS, axis=0),
        Bound("point_coords", 1, MOST_POINTS, axis=1),
        SameSize("point_labels", 0, "point_coords", 0),
        SameSize("point_labels", 1, "point_coords", 1),
        SameSize("mask_index", 0, "point_coords", 0),
        Bound("point_coords", -LARGEST_COORDINATE, LARGEST_COORDINATE, is_float=True),
        Bound("point_labels", -1, 3, is_float=True),
        Bound("mask_prompts", 1, MOST_PROMPTS, axis=0),
        Bound("mask_index", 0, MOST_PROMPTS - 1),
        Bound("mask_prompt_mode", min(MaskPromptMode), max(MaskPromptMode)),
        Bound("mask_choice", min(MaskChoice), max(MaskChoice)),
        Bound("low_res_size", 0, MASK_SIDE),
    ),
}
"""Sizes of 0, of which nothing comes, are what a server warms up with."""
_GUARDED: Final[dict[str, dict[str, int]]] = {
    SAM_IMAGE_ENCODER.name: {"canvas_size": TensorProto.INT64},
    SAM_MASK_DECODER.name: {"mask_index": TensorProto.INT64, "point_coords": TensorProto.FLOAT},
}
"""The inputs that a graph's work waits for; to each the guards are added, which are 0."""


def add_bounds(path: Path, model_name: str) -> None:
    """Write the bounds of one of the two networks into its graph."""
    model = onnx.load(path, load_external_data=False)
    guarded = _GUARDED[model_name]
    for node in model.graph.node:
        node.input[:] = [f"{name}/bounded" if name in guarded else name for name in node.input]
    nodes = list(_nodes(model, _BOUNDS[model_name], guarded))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    onnx.save(model, path)


def _nodes(
    model: ModelProto, bounds: tuple[Bound | SameSize, ...], guarded: dict[str, int]
) -> Iterator[NodeProto]:
    for name, kind, shape, value in (
        ("bounds/zero", TensorProto.INT64, [1], 0),
        ("bounds/one", TensorProto.INT64, [1], 1),
    ):
        model.graph.initializer.append(helper.make_tensor(name, kind, shape, [value]))
    before = "bounds/zero"
    for index, bound in enumerate(bounds):
        prefix = f"bounds/{index}"
        yield from _is_right(model, bound, prefix)
        yield helper.make_node("Not", [f"{prefix}/right"], [f"{prefix}/wrong"])
        yield helper.make_node(
            "Cast", [f"{prefix}/wrong"], [f"{prefix}/ones"], to=TensorProto.INT64
        )
        yield helper.make_node("ReduceSum", [f"{prefix}/ones"], [f"{prefix}/bad"], keepdims=0)
        yield helper.make_node("Add", ["bounds/one", f"{prefix}/bad"], [f"{prefix}/shape"])
        yield helper.make_node(
            "Reshape", ["bounds/zero", f"{prefix}/shape"], [f"{prefix}/guard"], name=bound.name
        )
        after = f"{prefix}/sum"
        yield helper.make_node("Add", [before, f"{prefix}/guard"], [after])
        before = after
    for tensor, datatype in guarded.items():
        yield helper.make_node("Cast", [before], [f"{tensor}/zero"], to=datatype)
        yield helper.make_node("Add", [tensor, f"{tensor}/zero"], [f"{tensor}/bounded"])


def _is_right(model: ModelProto, bound: Bound | SameSize, prefix: str) -> Iterator[NodeProto]:
    right = f"{prefix}/right"
    if isinstance(bound, SameSize):
        yield _size(bound.tensor, bound.axis, f"{prefix}/size")
        yield _size(bound.other, bound.other_axis, f"{prefix}/other")
        yield helper.make_node("Equal", [f"{prefix}/size", f"{prefix}/other"], [right])
        return
    value = bound.tensor
    if bound.axis is not None:
        value = f"{prefix}/size"
        yield _size(bound.tensor, bound.axis, value)
    kind = TensorProto.FLOAT if bound.is_float else TensorProto.INT64
    number = float if bound.is_float else int
    for side, limit in (("low", bound.low), ("high", bound.high)):
        tensor = helper.make_tensor(f"{prefix}/{side}", kind, [1], [number(limit)])
        model.graph.initializer.append(tensor)
    yield helper.make_node("GreaterOrEqual", [value, f"{prefix}/low"], [f"{prefix}/not_low"])
    yield helper.make_node("LessOrEqual", [value, f"{prefix}/high"], [f"{prefix}/not_high"])
    yield helper.make_node("And", [f"{prefix}/not_low", f"{prefix}/not_high"], [right])


def _size(tensor: str, axis: int, output: str) -> NodeProto:
    return helper.make_node("Shape", [tensor], [output], start=axis, end=axis + 1)
