"""Requests small enough for a message, and large enough for shared memory; both clients."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from support.clients import CLIENTS

SMALL = {"image": np.zeros((60, 90, 3), np.uint8), "logits": np.full((3, 6, 9), 0.1, np.float32)}
LARGE = {"image": np.zeros((700, 600, 3), np.uint8), "logits": np.full((3, 6, 9), 0.1, np.float32)}
"""Its image has 1.3 megabytes."""


@pytest.fixture(params=list(CLIENTS))
def client_of(request):
    """client_of(url, connection=...) -> a client whose calls block."""
    return CLIENTS[request.param]


@pytest.fixture
def small():
    return dict(SMALL)


@pytest.fixture
def large():
    return dict(LARGE)


@pytest.fixture(autouse=True)
def _nothing_is_left_in_shared_memory():
    yield
    ours = Path("/dev/shm").glob(f"sam_refine-*-{os.getpid()}-*")
    assert [path.name for path in ours] == []
