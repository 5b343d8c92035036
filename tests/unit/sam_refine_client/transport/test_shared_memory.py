"""Shared memory that cannot be had: the call goes another way. With real tensors: tests/server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import InferenceServerClient

from sam_refine_client import ConnectionOptions, ForbiddenError, ServerError
from sam_refine_client.steps.steps import Stop, run
from sam_refine_client.transport.shared_memory import Segments
from support.fake_triton import FakeTriton

ROOT = Path(__file__).parents[4]
REGISTER = "SystemSharedMemoryRegister"


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED"])
def test_server_that_was_not_reached_is_asked_again_at_the_next_call(client_of, large, code):
    with FakeTriton() as server, client_of(server.address) as client:
        server.statuses[REGISTER] = grpc.StatusCode[code]
        assert client.refine(**large).labels is not None
        assert server.regions == {}
        del server.statuses[REGISTER]
        assert client.refine(**large).labels is not None
        assert len(server.regions) == 1
    assert len(server.calls()) == 2


@pytest.mark.parametrize("code", ["INTERNAL", "INVALID_ARGUMENT", "UNIMPLEMENTED"])
def test_server_that_does_not_go_along_is_not_asked_again(client_of, large, code):
    with FakeTriton() as server, client_of(server.address) as client:
        server.statuses[REGISTER] = grpc.StatusCode[code]
        for _ in range(3):
            assert client.refine(**large).labels is not None
        assert len(server.calls(REGISTER)) == 1
        assert server.regions == {}


@pytest.mark.parametrize(
    ("code", "error"), [("INTERNAL", ServerError), ("PERMISSION_DENIED", ForbiddenError)]
)
def test_shared_memory_that_must_be_used_and_cannot_is_an_error(client_of, large, code, error):
    options = ConnectionOptions(shared_memory="always")
    with FakeTriton() as server, client_of(server.address, connection=options) as client:
        server.statuses[REGISTER] = grpc.StatusCode[code]
        with pytest.raises(error, match=r"^SystemSharedMemoryRegister fails \(model sam_refine"):
            client.refine(**large)
    assert server.calls() == []


def test_region_for_which_there_is_no_memory_is_an_error_that_leaves_nothing():
    size_bytes = shutil.disk_usage("/dev/shm").total + 2**20
    with FakeTriton() as server, InferenceServerClient(server.address) as connection:
        with pytest.raises(OSError, match="No space left on device"):
            run(Segments({}, None).take(size_bytes, None), lambda: connection, Stop("never"))
        assert server.calls(REGISTER) == []


LITTLE_MEMORY = """
import os
import numpy as np
from sam_refine_client import RefineClient
from support.fake_triton import FakeTriton

assert os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_bsize == 4 * 2**20
image, scores = np.zeros((1500, 1500, 3), np.uint8), np.full((3, 6, 9), 0.1, np.float32)
with FakeTriton() as server, RefineClient(server.address) as client:
    assert client.refine(image, logits=scores).labels.shape == (1500, 1500)
    assert server.calls("SystemSharedMemoryRegister") == []
    assert client.refine(image[:600], logits=scores).labels.shape == (600, 1500)
    assert len(server.calls("SystemSharedMemoryRegister")) == 1
"""


def test_client_in_a_container_of_little_shared_memory_sends_messages():
    """Where /dev/shm is full, writing to it kills by SIGBUS: Docker gives it 64 megabytes."""
    own_memory = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=4m none /dev/shm"
    if not shutil.which("unshare") or subprocess.run([*own_memory, mount], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    done = subprocess.run(
        [*own_memory, f'{mount} && exec "$0" -c "$1"', sys.executable, LITTLE_MEMORY],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join([str(ROOT / "tests"), *sys.path])},
    )
    assert (done.returncode, done.stderr) == (0, "")
