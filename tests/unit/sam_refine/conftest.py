"""What is written once for numpy and torch is tested with both, and on a GPU where there is one."""

import numpy as np
import pytest
import torch


def _cuda(array):
    return torch.as_tensor(array, device="cuda")


LIBRARIES = [pytest.param(np.asarray, id="numpy"), pytest.param(torch.as_tensor, id="torch")]
if torch.cuda.is_available():
    LIBRARIES.append(pytest.param(_cuda, id="cuda", marks=pytest.mark.gpu))


@pytest.fixture(scope="session", params=LIBRARIES)
def library(request):
    """library(array): a numpy array in the library, and on the device, under test."""
    return request.param
