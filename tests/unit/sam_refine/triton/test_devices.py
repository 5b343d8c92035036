"""Arrays of either library, from a caller and to a callee."""

import numpy as np
import pytest

from sam_refine.contract import ArrayLibrary
from sam_refine.triton.devices import NumpyArrays, TorchArrays, arrays_of
from support.fake_stub import TRITONSERVER_MEMORY_CPU, Tensor


@pytest.mark.parametrize(
    ("library", "kind"), [(ArrayLibrary.NUMPY, NumpyArrays), (ArrayLibrary.TORCH, TorchArrays)]
)
def test_library_of_the_deployment_is_what_computes(library, kind):
    assert isinstance(arrays_of(library), kind)


@pytest.mark.parametrize("library", ArrayLibrary)
def test_array_is_the_same_after_the_way_through_a_tensor(library):
    arrays = arrays_of(library)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    placed = arrays.place(values)
    tensor = arrays.write("A", placed.T)  # not contiguous
    assert tensor.name() == "A"
    np.testing.assert_array_equal(tensor.as_numpy(), values.T)
    read = arrays.read(Tensor("A", values))
    assert type(read) is type(placed)
    np.testing.assert_array_equal(np.asarray(read.cpu() if hasattr(read, "cpu") else read), values)


def test_numpy_array_beside_torch_goes_as_it_is():
    values = np.arange(3)
    assert TorchArrays().write("A", values).as_numpy() is values


def test_numpy_asks_callees_for_memory_that_it_can_read():
    assert NumpyArrays().memory.kind == TRITONSERVER_MEMORY_CPU
