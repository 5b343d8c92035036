"""Bounds in the graphs themselves: whoever calls a network gets an error instead of its memory.

Triton checks ranks and types of an input, not how large it is; and every model of a server can be
called by whoever can call one. So each graph counts what is out of bounds before it works:

    bad = ReduceSum(not (low <= value <= high))        NaN is not right
    guard = Reshape([0], [1 + bad])                    one 0, or an error that names the bound
    input' = Squeeze(Unsqueeze(input, guards), guards) every input, as it is: it waits for them

Sizes first: values are looked at where there are not too many of them. A shape lies in the memory
of the host and is checked there, whatever device runs the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from sam_refine.contract.tensors import (
    EMBEDDING_SHAPE,
    MASK_SIDE,
    MODEL_SIDE,
    MOST_POINTS,
    MOST_PROMPTS,
    MaskChoice,
    MaskPromptMode,
)

LARGEST_COORDINATE: Final = 1e6
"""In pixels of the canvas."""
CELL_SIDE: Final = MASK_SIDE // EMBEDDING_SHAPE[1]
"""Of a cell of the embedding, in pixels of a mask."""


@dataclass(frozen=True)
class Bound:
    """The values of an input, or one of its sizes, lie in [low, high]: NaN does not."""

    tensor: str
    low: float
    high: float
    axis: int | None = None
    """The axis whose size is meant; None means the values."""
    is_float: bool = False
    multiple_of: int | None = None
    """What each value is a multiple of, too."""

    @property
    def name(self) -> str:
        """As an error message has it."""
        what = self.tensor if self.axis is None else f"size {self.axis} of {self.tensor}"
        rule = f"{what} must be in [{self.low:g}, {self.high:g}]"
        return rule if self.multiple_of is None else f"{rule} and a multiple of {self.multiple_of}"


@dataclass(frozen=True)
class Index:
    """The values of an input are indices along the first axis of another."""

    tensor: str
    other: str

    @property
    def name(self) -> str:
        """As an error message has it."""
        return f"{self.tensor} must be at least 0 and below size 0 of {self.other}"


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


@dataclass(frozen=True)
class Finite:
    """No value of a large float32 input is infinite, nor NaN where that does not mean anything."""

    tensor: str
    allows_nan: bool = False

    @property
    def name(self) -> str:
        """As an error message has it."""
        return f"{self.tensor} must be finite{' or NaN' if self.allows_nan else ''}"


Rule: TypeAlias = Bound | Index | SameSize | Finite

ENCODER_BOUNDS: Final[tuple[Rule, ...]] = (
    SameSize("canvas_size", 0, "canvas", 0),
    Bound("canvas_size", 0, MODEL_SIDE),
)
DECODER_BOUNDS: Final[tuple[Rule, ...]] = (
    Bound("point_coords", 0, MOST_PROMPTS, axis=0),
    Bound("point_coords", 1, MOST_POINTS, axis=1),
    SameSize("point_labels", 0, "point_coords", 0),
    SameSize("point_labels", 1, "point_coords", 1),
    SameSize("mask_index", 0, "point_coords", 0),
    Bound("point_coords", -LARGEST_COORDINATE, LARGEST_COORDINATE, is_float=True),
    Bound("point_labels", -1, 3, is_float=True, multiple_of=1),
    Bound("mask_prompts", 1, MOST_PROMPTS, axis=0),
    Index("mask_index", "mask_prompts"),
    Bound("mask_prompt_mode", min(MaskPromptMode), max(MaskPromptMode)),
    Bound("mask_choice", min(MaskChoice), max(MaskChoice)),
    Bound("iou_threshold", -math.inf, math.inf, is_float=True),
    Bound("low_res_size", 0, MASK_SIDE, multiple_of=CELL_SIDE),
    Finite("image_embedding"),
    Finite("mask_prompts"),
)
"""Sizes of 0, of which nothing comes, are what a server warms up with. Infinite thresholds are what
all masks, or none, are asked for with."""


def add_bounds(path: Path, rules: Sequence[Rule]) -> None:
    """Write rules about the inputs of a graph into it."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    parameters = {parameter.name for parameter in graph.initializer}
    inputs = [given for given in graph.input if given.name not in parameters]
    _constant(model, "bounds/zero", TensorProto.INT64, [0])
    _constant(model, "bounds/one", TensorProto.INT64, [1])
    names = {given.name: given.name for given in inputs}
    checks: list[NodeProto] = []
    for stage, sizes in (("sized", True), ("bounded", False)):
        own = {i: rule for i, rule in enumerate(rules) if is_of_sizes(rule) == sizes}
        checks += _guards(model, own, names, f"bounds/{stage}")
        checks += _waiting(model, inputs, names, stage)
        names = {name: f"{name}/{stage}" for name in names}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    work = list(graph.node)
    del graph.node[:]
    graph.node.extend([*checks, *work])
    onnx.save(model, path)


def is_of_sizes(rule: Rule) -> bool:
    """Whether a rule looks at no values."""
    return isinstance(rule, SameSize) or (isinstance(rule, Bound) and rule.axis is not None)


def _guards(
    model: ModelProto, rules: Mapping[int, Rule], names: Mapping[str, str], passed: str
) -> Iterator[NodeProto]:
    """`passed`, one 0, or an error; `names` are those that the inputs have by now."""
    before = "bounds/zero"
    for index, rule in rules.items():
        prefix = f"bounds/{index}"
        yield from _is_right(model, rule, names, prefix)
        yield helper.make_node("Not", [f"{prefix}/right"], [f"{prefix}/wrong"])
        yield helper.make_node(
            "Cast", [f"{prefix}/wrong"], [f"{prefix}/ones"], to=TensorProto.INT64
        )
        yield helper.make_node("ReduceSum", [f"{prefix}/ones"], [f"{prefix}/bad"], keepdims=0)
        yield helper.make_node("Add", ["bounds/one", f"{prefix}/bad"], [f"{prefix}/shape"])
        yield helper.make_node(
            "Reshape", ["bounds/zero", f"{prefix}/shape"], [f"{prefix}/guard"], name=rule.name
        )
        after = f"{prefix}/guards"
        yield helper.make_node("Add", [before, f"{prefix}/guard"], [after])
        before = after
    yield helper.make_node("Identity", [before], [passed])


def _waiting(
    model: ModelProto, inputs: Sequence[ValueInfoProto], names: Mapping[str, str], stage: str
) -> Iterator[NodeProto]:
    """Each input once more, as it is and where it is; nothing is copied."""
    for given in inputs:
        value = model.graph.value_info.add()
        value.CopyFrom(given)
        value.name = f"{given.name}/{stage}"
        passed, wrapped = f"bounds/{stage}", f"{value.name}/wrapped"
        yield helper.make_node("Unsqueeze", [names[given.name], passed], [wrapped])
        yield helper.make_node("Squeeze", [wrapped, passed], [value.name])


def _is_right(
    model: ModelProto, rule: Rule, names: Mapping[str, str], prefix: str
) -> Iterator[NodeProto]:
    tensor = names[rule.tensor]
    right = f"{prefix}/right"
    if isinstance(rule, SameSize):
        yield _size(tensor, rule.axis, f"{prefix}/size")
        yield _size(names[rule.other], rule.other_axis, f"{prefix}/other")
        yield helper.make_node("Equal", [f"{prefix}/size", f"{prefix}/other"], [right])
    elif isinstance(rule, Index):
        yield _size(names[rule.other], 0, f"{prefix}/size")
        yield helper.make_node("GreaterOrEqual", [tensor, "bounds/zero"], [f"{prefix}/low"])
        yield helper.make_node("Less", [tensor, f"{prefix}/size"], [f"{prefix}/high"])
        yield helper.make_node("And", [f"{prefix}/low", f"{prefix}/high"], [right])
    elif isinstance(rule, Finite):
        yield from _is_finite(model, tensor, prefix, allows_nan=rule.allows_nan)
    else:
        yield from _is_within(model, rule, tensor, prefix)


def _is_finite(
    model: ModelProto, tensor: str, prefix: str, *, allows_nan: bool
) -> Iterator[NodeProto]:
    """A sum of zeros is 0, unless one was made of something else: one value for all."""
    zeros = f"{prefix}/zeros"
    _constant(model, f"{prefix}/zero", TensorProto.FLOAT, [0])
    if allows_nan:
        yield helper.make_node("IsInf", [tensor], [f"{prefix}/is_infinite"])
        yield helper.make_node("Cast", [f"{prefix}/is_infinite"], [zeros], to=TensorProto.FLOAT)
    else:
        yield helper.make_node("Mul", [tensor, f"{prefix}/zero"], [zeros])
    yield helper.make_node("ReduceSum", [zeros], [f"{prefix}/total"], keepdims=0)
    yield helper.make_node("Equal", [f"{prefix}/total", f"{prefix}/zero"], [f"{prefix}/right"])


def _is_within(model: ModelProto, bound: Bound, tensor: str, prefix: str) -> Iterator[NodeProto]:
    value = tensor
    if bound.axis is not None:
        value = f"{prefix}/size"
        yield _size(tensor, bound.axis, value)
    kind = TensorProto.FLOAT if bound.is_float else TensorProto.INT64
    _constant(model, f"{prefix}/low", kind, [bound.low])
    _constant(model, f"{prefix}/high", kind, [bound.high])
    conditions = [f"{prefix}/not_low", f"{prefix}/not_high"]
    yield helper.make_node("GreaterOrEqual", [value, f"{prefix}/low"], conditions[:1])
    yield helper.make_node("LessOrEqual", [value, f"{prefix}/high"], conditions[1:])
    within = f"{prefix}/right" if bound.multiple_of is None else f"{prefix}/within"
    yield helper.make_node("And", conditions, [within])
    if bound.multiple_of is not None:
        rest = f"{prefix}/rest"
        _constant(model, f"{prefix}/step", kind, [bound.multiple_of])
        _constant(model, f"{prefix}/none", kind, [0])
        yield helper.make_node("Mod", [value, f"{prefix}/step"], [rest], fmod=int(bound.is_float))
        yield helper.make_node("Equal", [rest, f"{prefix}/none"], [f"{prefix}/is_multiple"])
        yield helper.make_node("And", [within, f"{prefix}/is_multiple"], [f"{prefix}/right"])


def _size(tensor: str, axis: int, output: str) -> NodeProto:
    return helper.make_node("Shape", [tensor], [output], start=axis, end=axis + 1)


def _constant(model: ModelProto, name: str, kind: int, values: Sequence[float]) -> None:
    numbers = values if kind == TensorProto.FLOAT else [int(value) for value in values]
    model.graph.initializer.append(helper.make_tensor(name, kind, [len(values)], numbers))
