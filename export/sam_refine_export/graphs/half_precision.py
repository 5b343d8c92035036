"""Float32 graphs to graphs that multiply in float16, where their values allow it.

A product (a matrix product or a convolution) whose values are all far below float16's largest takes
float16 and gives float16, and so does the sum with its bias. Nodes that only move values to or from
it do so in float16 too. All else stays in float32: the graph's inputs and outputs, norms, softmax,
Gelu, residual sums. GPUs multiply float16 several times as fast, and add products up in float32.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass
from onnxruntime import ExecutionOrder, GraphOptimizationLevel, InferenceSession, SessionOptions

from sam_refine_export.errors import ExportError
from sam_refine_export.graphs.onnx_graph import LARGE_BYTES

HEADROOM: Final = 8.0
"""By what factor the values of other images may exceed those that were measured."""

MIN_TERMS: Final = 16
"""Products that sum up fewer terms stay in float32: GPUs multiply float16 in steps of this length.
Two kinds are that short: the positional encoding of points, whose coordinates float16 would round
to a quarter of a pixel, and depthwise convolutions, which cost less than the casts would.
"""

_LIMIT: Final = float(np.finfo(np.float16).max) / HEADROOM

_PRODUCTS: Final = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_MOVES: Final = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "Pad",
        "Relu",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""Operators whose outputs are values of their inputs, or zero: it makes no difference whether those
are rounded before or after."""


@dataclass(frozen=True)
class HalfPrecision:
    """What a conversion did."""

    float16_nodes: int
    """How many products and sums with a bias compute in float16."""
    float32_nodes: dict[str, float]
    """Those kept in float32 because of a large value: that value, absolute, by node name."""
    largest_value: float
    """The largest absolute value at any product or sum with a bias."""

    def to_json(self) -> dict[str, Any]:
        """As plain lists and mappings."""
        return asdict(self)


def measure_ranges(
    onnx_path: Path, feeds: Iterable[Mapping[str, npt.NDArray[Any]]]
) -> dict[str, float]:
    """The largest absolute value of each tensor that goes into or comes out of a product, by name.

    Each of `feeds` is one run: the graph's inputs by name. Parameters are left out.
    """
    model = _load(onnx_path)
    graph = model.graph
    tensors = {
        str(value.name): value
        for node in _candidates(graph)
        for value in _floats(*node.inputs, *node.outputs)
        if not value.is_initializer()
    }
    if not tensors:
        return {}
    extremes = []
    for name, value in tensors.items():
        for operator in ("ReduceMax", "ReduceMin"):
            extreme = _new_value(f"{name}.{operator}", ir.DataType.FLOAT, ir.Shape(()))
            _insert(graph, ir.node(operator, [value], {"keepdims": 0}, outputs=[extreme]))
            graph.outputs.append(extreme)
            extremes.append(extreme.name)
    options = SessionOptions()
    # The default order leaves all extremes for the end and keeps all tensors until then.
    options.execution_order = ExecutionOrder.PRIORITY_BASED
    session = _session(model, onnx_path, options)
    largest = np.zeros(len(extremes), np.float32)
    for feed in feeds:
        largest = np.maximum(largest, np.abs(session.run(extremes, dict(feed))))
    return dict(zip(tensors, largest.reshape(-1, 2).max(axis=1).tolist(), strict=True))


def convert(onnx_path: Path, output_path: Path, ranges: Mapping[str, float]) -> HalfPrecision:
    """Write the float32 graph `onnx_path` to `output_path`, its products in float16 where they fit.

    `ranges` are those that `measure_ranges` found. Both paths may be the same. Raises `ExportError`
    where a range is missing.
    """
    model = _load(onnx_path)
    parameter_files = _parameter_files(model)
    largest = _largest_values(model.graph, ranges, onnx_path)
    fitting = {node for node, value in largest.items() if value < _LIMIT}
    half = {node for node in fitting if _is_product(node) or _biased_product(node) in fitting}
    report = HalfPrecision(
        float16_nodes=len(half),
        float32_nodes={
            str(node.name or node.outputs[0].name): value
            for node, value in largest.items()
            if node not in fitting
        },
        largest_value=max(largest.values(), default=0.0),
    )
    _add_moves(half, model.graph)
    _round(model.graph, half)
    _save(model, output_path)
    if output_path.samefile(onnx_path):
        for file in parameter_files - _parameter_files(ir.load(output_path)):
            file.unlink()
    return report


def session_with_real_rounding(onnx_path: Path) -> InferenceSession:
    """A CPU session of a converted graph in which float16 rounds and overflows as on a GPU.

    On a CPU, ONNX Runtime multiplies float16 in float32 and drops the casts around it, so nothing
    shows what float16 does to the values. Here everything is computed in float32, and each output
    of a float16 node is rounded explicitly.
    """
    model = ir.load(onnx_path)
    for value in _values(model.graph):
        if value.dtype == ir.DataType.FLOAT16:
            _round_explicitly(model.graph, value)
    options = SessionOptions()
    # Any optimisation would drop the explicit rounding again.
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    return _session(model, onnx_path, options)


def _load(path: Path) -> ir.Model:
    """A graph whose tensors all have a type; parameters in files of their own stay there."""
    model = ir.load(path)
    ShapeInferencePass()(model)
    return model


def _save(model: ir.Model, path: Path) -> None:
    if sum(tensor.nbytes for tensor in _parameters(model)) > LARGE_BYTES:
        # The parameters may still be read from the files that are to be replaced.
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            written = Path(scratch) / path.name
            ir.save(model, written, external_data=f"{path.name}.data")
            for file in (written.with_name(f"{path.name}.data"), written):
                file.replace(path.with_name(file.name))
    else:
        ir.save(ir.external_data.load_to_model(model), path)


def _session(model: ir.Model, path: Path, options: SessionOptions) -> InferenceSession:
    """A session of a changed copy of the graph at `path`, with the parameter files beside it."""
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.parent)
    )
    graph = ir.to_proto(model).SerializeToString()
    return InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _parameters(model: ir.Model) -> list[ir.TensorProtocol]:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return [tensor for tensor in tensors if tensor is not None]


def _parameter_files(model: ir.Model) -> set[Path]:
    """The files beside a graph that hold its parameters; none if it holds them itself."""
    return {Path(t.path) for t in _parameters(model) if isinstance(t, ir.ExternalTensor)}


def _values(graph: ir.Graph) -> list[ir.Value]:
    """All tensors of a graph: inputs, parameters, outputs of nodes."""
    outputs = (value for node in graph for value in node.outputs)
    return [*graph.inputs, *graph.initializers.values(), *outputs]


def _floats(*values: ir.Value | None) -> list[ir.Value]:
    return [v for v in values if v is not None and v.dtype == ir.DataType.FLOAT]


def _candidates(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that may compute in float16: products, and sums of one with its bias."""
    return [node for node in graph if _is_product(node) or _biased_product(node)]


def _is_product(node: ir.Node) -> bool:
    """Whether a node is a product of floats, with enough terms for float16 to pay."""
    is_product = node.op_type in _PRODUCTS and bool(_floats(*node.outputs))
    return is_product and _terms(node) >= MIN_TERMS


def _terms(node: ir.Node) -> float:
    """How many terms a product sums up for each value; infinite where that is not fixed."""
    first, second = (value.shape if value else None for value in node.inputs[:2])
    if first is None or second is None:
        return math.inf
    attributes = node.attributes
    if node.op_type == "MatMul":
        sizes = first[-1:]
    elif node.op_type == "Gemm":
        sizes = second[1:] if attributes.get_int("transB", 0) else second[:1]
    elif node.op_type == "Conv":
        sizes = second[1:]
    else:
        sizes = second[:1]
    fixed = [size for size in sizes if isinstance(size, int)]
    return math.prod(fixed) if len(fixed) == len(sizes) else math.inf


def _biased_product(node: ir.Node) -> ir.Node | None:
    """The product to which a node adds a bias, or None: the sum must be the product's only use."""
    parameters = [value for value in node.inputs if value and value.is_initializer()]
    summands = [value for value in node.inputs if value and not value.is_initializer()]
    if node.op_type != "Add" or len(parameters) != 1:
        return None
    product = summands[0].producer()
    is_used_once = len(summands[0].uses()) == 1 and not summands[0].is_graph_output()
    return product if product and _is_product(product) and is_used_once else None


def _largest_values(
    graph: ir.Graph, ranges: Mapping[str, float], path: Path
) -> dict[ir.Node, float]:
    """For every candidate, the largest absolute value of its inputs, parameters and outputs."""
    largest = {}
    for node in _candidates(graph):
        values = _floats(*node.inputs, *node.outputs)
        try:
            largest[node] = max(_largest_value(value, ranges) for value in values)
        except KeyError as error:
            raise ExportError(f"{path}: no range was measured for {error}") from error
    return largest


def _largest_value(value: ir.Value, ranges: Mapping[str, float]) -> float:
    if value.is_initializer() and value.const_value is not None:
        array = value.const_value.numpy()
        return float(max(array.max(initial=0.0), -array.min(initial=0.0)))
    return ranges[str(value.name)]


def _add_moves(half: set[ir.Node], graph: ir.Graph) -> None:
    """Add to `half` the nodes that only move what it gives, or only what it takes."""
    moves = [node for node in graph if node.op_type in _MOVES and _floats(*node.outputs)]
    for node in moves:
        if all(value.producer() in half for value in _floats(*node.inputs)):
            half.add(node)
    for node in reversed(moves):
        users = [user for value in node.outputs for user, _ in value.uses()]
        is_output = any(value.is_graph_output() for value in node.outputs)
        if users and half.issuperset(users) and not is_output:
            half.add(node)


def _round(graph: ir.Graph, half: set[ir.Node]) -> None:
    """Give the nodes `half` float16 inputs and outputs in place of float32.

    A tensor is cast once for all its uses. Where both types are needed, float32 keeps the name.
    """
    for value in _values(graph):
        if value.dtype != ir.DataType.FLOAT:
            continue
        name = str(value.name)
        half_uses = [use for use in value.uses() if use[0] in half]
        float_uses = [use for use in value.uses() if use[0] not in half]
        is_needed_in_float = bool(float_uses) or value.is_graph_output()
        if value.producer() in half:
            value.dtype = ir.DataType.FLOAT16
            if is_needed_in_float:
                value.name = f"{name}.half"
                full = _copy(graph, value, ir.DataType.FLOAT, name)
                _replace(float_uses, full)
                graph.outputs[:] = [full if output is value else output for output in graph.outputs]
        elif half_uses and not value.is_initializer():
            _replace(half_uses, _copy(graph, value, ir.DataType.FLOAT16, f"{name}.half"))
        elif half_uses:
            if not is_needed_in_float:
                del graph.initializers[name]
            rounded = _rounded_parameter(value, f"{name}.half" if is_needed_in_float else name)
            graph.register_initializer(rounded)
            _replace(half_uses, rounded)


def _rounded_parameter(value: ir.Value, name: str) -> ir.Value:
    """A parameter in float16, rounded to nearest; the tiniest values become zero."""
    tensor = value.const_value
    assert tensor is not None  # or it would be no parameter
    rounded = _new_value(name, ir.DataType.FLOAT16, value.shape)
    rounded.const_value = ir.LazyTensor(
        lambda: ir.Tensor(tensor.numpy().astype(np.float16)),
        dtype=ir.DataType.FLOAT16,
        shape=ir.Shape(tensor.numpy().shape),
        name=name,
    )
    return rounded


def _round_explicitly(graph: ir.Graph, value: ir.Value) -> None:
    """Turn a float16 tensor into a float32 one whose values are those that float16 has."""
    node, name, uses = value.producer(), str(value.name), value.uses()
    if node and node.op_type in _MOVES:
        value.dtype = ir.DataType.FLOAT
        return
    half = value
    if node and node.op_type != "Cast":
        value.dtype = ir.DataType.FLOAT
        half = _copy(graph, value, ir.DataType.FLOAT16, f"{name}.half")
    # Two casts that meet would be dropped even without optimisations.
    between = _copy(graph, half, ir.DataType.FLOAT16, f"{name}.between")
    _replace(uses, _copy(graph, between, ir.DataType.FLOAT, f"{name}.rounded"))


def _copy(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
    """A copy of a tensor as `name`, by a new node: a cast, or an identity if the type stays."""
    operator, attributes = ("Identity", {}) if value.dtype == dtype else ("Cast", {"to": dtype})
    copy = _new_value(name, dtype, value.shape)
    name = f"{operator}_{name}"
    _insert(graph, ir.node(operator, [value], attributes, outputs=[copy], name=name))
    return copy


def _insert(graph: ir.Graph, node: ir.Node) -> None:
    """Insert a node right after the one that computes its only input."""
    (value,) = node.inputs
    producer = value.producer() if value else None
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)


def _new_value(name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    return ir.Value(name=name, shape=shape, type=ir.TensorType(dtype))


def _replace(uses: Iterable[tuple[ir.Node, int]], value: ir.Value) -> None:
    for node, index in uses:
        node.replace_input_with(index, value)
