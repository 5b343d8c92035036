"""Compares the tensors of a model's configuration with those of its ONNX graph.

The rules are the C++ backend's, so that what loads on one server loads on the other: the dims of an
output must be exactly the graph's, those of an input may fix a size that varies in the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Config = Mapping[str, Any]
Dims = tuple[int, ...]

AUTO_MAX_BATCH_SIZE: Final = 4
"""For a configuration without tensors, if the graph has a batch axis: the C++ backend's default."""

_TRITON_TYPES: Final = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of an ONNX graph. `datatype` is Triton's name; a size of -1 varies.

    A datatype that numpy does not have, such as bfloat16, keeps ONNX Runtime's name.
    """

    name: str
    datatype: str
    dims: Dims


@dataclass(frozen=True)
class Graph:
    """The inputs and outputs of an ONNX graph."""

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    initializers: tuple[GraphTensor, ...] = ()
    """Weights that a caller may override: they are optional inputs."""

    @classmethod
    def of_session(cls, session: Any) -> Graph:
        """The graph of an `onnxruntime.InferenceSession`."""
        return cls(
            _tensors(session.get_inputs()),
            _tensors(session.get_outputs()),
            _tensors(session.get_overridable_initializers()),
        )

    @property
    def has_batch_axis(self) -> bool:
        """Whether every tensor has several sizes, of which the first varies.

        With the C++ backend, the batch may be the only axis; a Python model cannot tell Triton so.
        """
        return all(
            tensor.dims[:1] == (-1,) and len(tensor.dims) > 1
            for tensor in (*self.inputs, *self.outputs)
        )


def differences(config: Config, graph: Graph) -> list[str]:
    """Where configuration and graph disagree, a phrase each; empty if they match."""
    batched = config.get("max_batch_size", 0) > 0
    inputs, outputs = config.get("input", ()), config.get("output", ())
    optional = [tensor for tensor in inputs if tensor.get("optional")]
    required = [tensor for tensor in inputs if not tensor.get("optional")]
    found = [
        *_compare_all("input", required, graph.inputs, batched=batched, exact=False),
        *_compare_all("input", optional, graph.initializers, batched=batched, exact=False),
        *_compare_all("output", outputs, graph.outputs, batched=batched, exact=True),
    ]
    if batched:
        found += [
            f"input {tensor['name']!r} is optional, which a batched model cannot have"
            for tensor in optional
        ]
    given = {tensor["name"] for tensor in required}
    found += [
        f"input {tensor.name!r} of the graph is not in the configuration"
        for tensor in graph.inputs
        if tensor.name not in given
    ]
    return found


def unsupported_features(config: Config) -> list[str]:
    """What the configuration asks for that only the C++ backend supports, a phrase each."""
    found = [key for key in ("batch_input", "batch_output") if config.get(key)]
    found += [
        f"allow_ragged_batch of input {tensor['name']!r}"
        for tensor in config.get("input", ())
        if tensor.get("allow_ragged_batch")
    ]
    if config.get("sequence_batching"):
        found.append("sequence_batching")
    return found


def completed(config: Config, graph: Graph) -> dict[str, Any]:
    """`input`, `output` and `max_batch_size` for a configuration that leaves out tensors.

    Has only the keys that the configuration needs.
    """
    completion: dict[str, Any] = {}
    max_batch_size = config.get("max_batch_size", 0)
    if config.get("input") and config.get("output"):
        return completion
    if max_batch_size == 0 and graph.has_batch_axis:
        max_batch_size = completion["max_batch_size"] = AUTO_MAX_BATCH_SIZE
    for key, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        if not config.get(key):
            completion[key] = [_described(tensor, max_batch_size > 0) for tensor in tensors]
    return completion


def _tensors(nodes: Iterable[Any]) -> tuple[GraphTensor, ...]:
    return tuple(
        GraphTensor(
            node.name,
            _TRITON_TYPES.get(node.type, node.type),
            tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape),
        )
        for node in nodes
    )


def _compare_all(
    kind: str,
    configured: Sequence[Config],
    tensors: Sequence[GraphTensor],
    *,
    batched: bool,
    exact: bool,
) -> list[str]:
    by_name = {tensor.name: tensor for tensor in tensors}
    found = []
    for entry in configured:
        tensor = by_name.get(entry["name"])
        label = f"{kind} {entry['name']!r}"
        if tensor is None:
            found.append(f"{label} is not in the graph, which has {', '.join(by_name) or 'none'}")
            continue
        if entry["data_type"] != tensor.datatype or tensor.datatype not in _TRITON_TYPES.values():
            found.append(f"{label} is {entry['data_type']}, in the graph {tensor.datatype}")
        dims = _configured_dims(entry, batched)
        if not _dims_match(dims, tensor.dims, exact=exact):
            found.append(f"{label} has shape {list(dims)}, in the graph {list(tensor.dims)}")
    return found


def _configured_dims(entry: Config, batched: bool) -> Dims:
    """The full shape that the model gets: after the reshape, with the batch axis."""
    dims = entry["reshape"]["shape"] if "reshape" in entry else entry["dims"]
    return (*((-1,) if batched else ()), *map(int, dims))


def _dims_match(configured: Dims, graph: Dims, *, exact: bool) -> bool:
    if not graph:  # a scalar: a configuration cannot express () and has ones instead
        return all(size == 1 for size in configured)
    return len(configured) == len(graph) and all(
        size == graph_size or (graph_size == -1 and not exact)
        for size, graph_size in zip(configured, graph, strict=True)
    )


def _described(tensor: GraphTensor, batched: bool) -> dict[str, Any]:
    dims = list(tensor.dims[1:] if batched else tensor.dims)
    return {"name": tensor.name, "data_type": tensor.datatype, "dims": dims or [1]}
