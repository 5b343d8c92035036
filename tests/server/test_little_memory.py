"""256 MiB of /dev/shm and 4 GiB of memory: what the limits allow succeeds or is refused in words.

One server for all, in this order: it keeps in /dev/shm what it has once taken.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from sam_refine.contract.serving.unavailable import has_no_room
from sam_refine_client import RefineClient, RefineOptions
from support.servers import calls_of, supervised

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("export, under load")]

MIB = 2**20
SMALL = 96
SCORES = np.full((8, 16, 16), 0.05, np.float32)
for _class_id, _rows in enumerate(((0, 6), (6, 11), (11, 16))):  # three regions: little work each
    SCORES[_class_id, slice(*_rows)] = 0.8
LABELS, SCORES_OUT = "REFINED_LABELS_UINT8", "REFINED_LOGITS"
OWN_CGROUPS = Path("/proc/self/cgroup")
CONFINED = """#!/bin/sh
exec unshare {map_user} --mount --propagation private sh -c '
mount -t tmpfs -o size={shared_mib}m tmpfs /dev/shm || exit 1
{enter}
exec "$0" "$@"' {python} "$@"
"""


@contextmanager
def confined_python(folder: Path, *, shared_mib: int, memory_mib: int) -> Iterator[str]:
    """An executable that takes Python's arguments.

    Skips the test where the system gives no mount namespace; where it gives no cgroup, says so and
    limits no memory.
    """
    with memory_cgroup(memory_mib) as cgroup:
        script = folder / "python"
        script.write_text(
            CONFINED.format(
                map_user="--map-root-user" if os.getuid() else "",
                shared_mib=shared_mib,
                enter=f"echo $$ > {shlex.quote(str(cgroup))}/cgroup.procs" if cgroup else "",
                python=shlex.quote(sys.executable),
            )
        )
        script.chmod(0o755)
        found = shutil.which("unshare")
        if not found or subprocess.run([script, "-c", ""], check=False).returncode:
            pytest.skip("no mount namespace of one's own can be had here")
        yield str(script)


def made_cgroup(line: str, limit_bytes: int) -> Path | None:
    """Within the one that a line of `OWN_CGROUPS` names; None where that cannot be."""
    _, controllers, path = line.split(":", 2)
    if controllers not in ("", "memory"):
        return None
    parent = Path("/sys/fs/cgroup") / controllers / path.lstrip("/")
    cgroup = parent / f"sam-refine-test-{os.getpid()}"
    try:
        cgroup.mkdir()
    except OSError:
        return None
    try:
        limit = "memory.limit_in_bytes" if controllers else "memory.max"
        (cgroup / limit).write_text(str(limit_bytes))
    except OSError:
        cgroup.rmdir()
        return None
    return cgroup


@contextmanager
def memory_cgroup(memory_mib: int) -> Iterator[Path | None]:
    """One within this process's own, of either version; None where none can be made."""
    made = (made_cgroup(line, memory_mib * 2**20) for line in OWN_CGROUPS.read_text().splitlines())
    cgroup = next(filter(None, made), None)
    if cgroup is None:
        print("no memory cgroup of one's own can be had here: memory is not limited")
    try:
        yield cgroup
    finally:
        while cgroup and (cgroup / "cgroup.procs").read_text():
            time.sleep(0.05)
        if cgroup:
            cgroup.rmdir()


def image(side: int) -> np.ndarray:
    return np.full((side, side, 3), 100, np.uint8)


@pytest.fixture(scope="module")
def service(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("little_memory")
    with (
        confined_python(folder, shared_mib=256, memory_mib=4096) as python,
        supervised(repository, folder / "serve.log", python=python) as service,
    ):
        yield service


@pytest.fixture
def send(service):
    """send((side, output), ...) -> "", or status and text, of each; all at once."""

    def call(arguments):
        side, output = arguments
        inputs = {"IMAGE": image(side), "LOGITS": SCORES}
        with tritonclient.grpc.InferenceServerClient(service.url) as client:
            try:
                calls_of(client)(inputs, [output], {"min_region_area": 1})
            except InferenceServerException as error:
                return f"{error.status()}: {error.message()}"
        return ""

    def send(*calls):
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(call, calls))

    return send


@pytest.fixture(autouse=True)
def _nobody_died(service, send):
    """Whatever came, the same processes serve an ordinary request afterwards."""
    before = {stub.process_id for stub in service.stubs()}
    yield
    if service.process.poll() is None:
        assert send((SMALL, LABELS)) == [""]
        assert {stub.process_id for stub in service.stubs()} == before


def test_two_whose_outputs_do_not_fit_together_do_not_begin_together(send):
    answers = send((2048, SCORES_OUT), (2048, SCORES_OUT))  # 128 MiB each
    assert "" in answers
    for refused in filter(None, answers):
        assert refused.startswith("StatusCode.UNAVAILABLE: the tensors need about ")
        assert refused.endswith(" MiB are free now")


def test_client_tries_again_until_there_is_room(service):
    """The instance whose region is too small now refuses what the other one has room for."""
    with RefineClient(service.url) as client:
        result = client.refine(
            image(2048),
            logits=SCORES,
            options=RefineOptions(min_region_area=1),
            outputs=("logits",),
            timeout_s=120,
        )
    assert result.logits.shape == (8, 2048, 2048)


def test_all_at_once_succeed_or_are_refused_with_a_reason(send):
    answers = send(
        (SMALL, LABELS),
        (512, SCORES_OUT),
        (1024, LABELS),
        (2048, LABELS),
        (4096, LABELS),
        (4096, SCORES_OUT),  # 512 MiB, more than there is
        (8192, LABELS),
    )
    for refused in filter(None, answers):
        has_reason = refused.startswith(("StatusCode.UNAVAILABLE: ", "StatusCode.INVALID_ARGUMENT"))
        assert has_reason or has_no_room(refused), refused


def test_what_is_larger_than_shared_memory_is_refused_for_good(send):
    (refused,) = send((2900, SCORES_OUT))  # 257 MiB
    assert refused.startswith("StatusCode.INVALID_ARGUMENT: the tensors need about ")
    assert "of shared memory, and the server has 256 MiB in all" in refused


def test_server_ends_cleanly_where_shared_memory_is_full(service):
    path = Path(f"/proc/{service.process.pid}/root/dev/shm/full")
    with path.open("wb", buffering=0) as file, suppress(OSError):  # no space left
        while file.write(bytes(MIB)):
            pass
    service.process.terminate()
    assert service.process.wait() == 0
