"""PyTorch modules to ONNX graphs with the names, shapes and free axes of the contract."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from sam_refine.contract.tensors import ModelSpec, TensorSpec
from sam_refine_export.errors import ExportError

OPSET: Final = 20
IR_VERSION: Final = 9
"""ONNX 1.15, the first with Gelu as one operator; ONNX Runtime reads it since 1.17 (early 2024)."""

LARGE_BYTES: Final = 2**31 - 2**24
"""A protobuf file can hold 2 GiB; more parameters than that go to a file beside the graph."""


def export_graph(network: nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write `network` to `path` with the inputs and outputs of `spec`, in their order.

    Axes that have a letter in the contract, and the batch axis, stay free.
    """
    dims = {name: torch.export.Dim(name) for name in _free_axes(spec)}
    shapes = [shape_with_batch(tensor, spec) for tensor in spec.inputs]
    dynamic_shapes = tuple(
        {axis: dims[size] for axis, size in enumerate(shape) if isinstance(size, str)}
        for shape in shapes
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network.eval(),
            _example(spec),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(spec.input_names),
            output_names=list(spec.output_names),
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    assert program is not None
    for tensor, output in zip(spec.outputs, program.model.graph.outputs, strict=True):
        output.shape = ir.Shape(shape_with_batch(tensor, spec))  # torch makes up names
    ClearMetadataAndDocStringPass()(program.model)  # whose source each node came from
    program.model.ir_version = IR_VERSION
    parameter_bytes = sum(p.numel() * p.element_size() for p in network.state_dict().values())
    program.save(path, external_data=parameter_bytes > LARGE_BYTES)


def parameter_to_input(
    path: Path, output_path: Path, name: str, shape: Sequence[int | str]
) -> npt.NDArray[Any]:
    """Write a copy of a graph in which one parameter is a further input, of `shape`.

    Returns the parameter's values. Raises `ExportError` where the graph has none of this name.
    """
    model = onnx.load(path)
    parameters = {parameter.name: parameter for parameter in model.graph.initializer}
    if name not in parameters:
        raise ExportError(f"{path} has no parameter {name}")
    parameter = parameters[name]
    model.graph.initializer.remove(parameter)
    model.graph.input.append(onnx.helper.make_tensor_value_info(name, parameter.data_type, shape))
    onnx.save(model, output_path)
    return onnx.numpy_helper.to_array(parameter)


def shape_with_batch(tensor: TensorSpec, spec: ModelSpec) -> tuple[int | str, ...]:
    """A tensor's shape as the graph has it: Triton's batch axis, if any, comes first as `batch`."""
    return ("batch", *tensor.shape) if spec.batched else tensor.shape


def _free_axes(spec: ModelSpec) -> list[str]:
    sizes = [size for tensor in spec.inputs for size in shape_with_batch(tensor, spec)]
    return sorted({size for size in sizes if isinstance(size, str)})


def _example(spec: ModelSpec) -> tuple[Tensor, ...]:
    """Zeros to trace a network with.

    Each free axis has a size of its own, two or more: torch.export takes sizes 0 and 1 for
    constants, and equal sizes might be taken for the same axis.
    """
    sizes = {name: size for size, name in enumerate(_free_axes(spec), start=2)}

    def zeros(tensor: TensorSpec) -> Tensor:
        shape = shape_with_batch(tensor, spec)
        concrete = [sizes[size] if isinstance(size, str) else size for size in shape]
        return torch.from_numpy(np.zeros(concrete, tensor.dtype))

    return tuple(zeros(tensor) for tensor in spec.inputs)
