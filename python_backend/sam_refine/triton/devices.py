"""Which array library computes, and how it reads and writes Triton's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from sam_refine.contract import ArrayLibrary
from sam_refine.numerics.arrays import Array


class NumpyArrays:
    """Arrays of numpy, on the CPU."""

    def __init__(self) -> None:
        # Where callees put their outputs: numpy cannot read those on a GPU.
        self.memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)

    def place(self, array: npt.NDArray[Any]) -> Array:
        """Bring what a caller sent to where it is computed with."""
        return array

    def read(self, tensor: Any) -> Array:
        """A callee's output as an array."""
        return tensor.as_numpy()

    def write(self, name: str, array: Array) -> Any:
        """A callee's input as a tensor of Triton's."""
        return pb_utils.Tensor(name, array)


class TorchArrays:
    """Tensors of torch, on the GPU if torch sees one; Triton's own memory is read in place."""

    def __init__(self) -> None:
        """Raises `ImportError` where the stub's environment has no torch."""
        import torch

        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self._device.type == "cuda"
        self.memory = pb_utils.PreferredMemory(
            pb_utils.TRITONSERVER_MEMORY_GPU if on_gpu else pb_utils.TRITONSERVER_MEMORY_CPU
        )

    def place(self, array: npt.NDArray[Any]) -> Array:
        """Bring what a caller sent to where it is computed with."""
        return self._torch.from_numpy(array).to(self._device)

    def read(self, tensor: Any) -> Array:
        """A callee's output as an array."""
        return self._torch.utils.dlpack.from_dlpack(tensor.to_dlpack()).to(self._device)

    def write(self, name: str, array: Array) -> Any:
        """A callee's input as a tensor of Triton's; small ones are numpy arrays."""
        if isinstance(array, np.ndarray):
            return pb_utils.Tensor(name, array)
        return pb_utils.Tensor.from_dlpack(name, array.contiguous())


Arrays = NumpyArrays | TorchArrays


def arrays_of(library: ArrayLibrary) -> Arrays:
    """The deployment's choice. Raises `ImportError` where it is not installed."""
    return TorchArrays() if library is ArrayLibrary.TORCH else NumpyArrays()
