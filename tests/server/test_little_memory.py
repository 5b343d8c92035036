"""256 MiB of /dev/shm and 4 GiB of memory: what the limits allow succeeds or is refused in words,
and what the kernel kills for want of memory is healed.

One server for all, in this order: it keeps in /dev/shm what it has once taken.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from sam_refine.contract.serving.unavailable import has_no_room
from sam_refine_client import RefineClient, RefineOptions
from support.clients import beside_callers
from support.servers import calls_of, supervised, wait_until

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("export, under load")]

MIB = 2**20
SMALL = 96
SCORES = np.full((8, 16, 16), 0.05, np.float32)
for _class_id, _rows in enumerate(((0, 6), (6, 11), (11, 16))):  # three regions: little work each
    SCORES[_class_id, slice(*_rows)] = 0.8
LABELS, SCORES_OUT = "REFINED_LABELS_UINT8", "REFINED_LOGITS"
SHARED_MIB, MEMORY_BYTES = 256, 4 * 2**30
OWN_CGROUPS = Path("/proc/self/cgroup")
CONFINED = """#!/bin/sh
exec unshare {map_user} --mount --propagation private sh -c '
mount -t tmpfs -o size={shared_mib}m tmpfs /dev/shm || exit 1
{enter}
exec "$0" "$@"' {python} "$@"
"""
STUBS = 5
WORN_S = 15.0
"""After a kill, before the next: a server that is worn has been found so long before."""
USE_UP = """
import os, sys
from pathlib import Path
processes, events = map(Path, sys.argv[1:])
processes.write_text(str(os.getpid()))
kills = lambda: [line for line in events.read_text().splitlines() if line.split()[0] == "oom_kill"]
memory, before = os.memfd_create("nobody's"), kills()
while kills() == before:
    os.write(memory, bytes(2**20))
"""
"""Takes memory that counts for the cgroup and for none of its processes, until one was killed."""
FIRST_TO_END = 1000
"""What the kernel goes by (oom_score_adj), at most."""


@dataclass(frozen=True)
class Cgroup:
    """One that limits memory, of either version."""

    path: Path
    limit: str = "memory.max"
    used: str = "memory.current"
    events: str = "memory.events"
    swap: str = "memory.swap.max"
    """0 where nothing may be swapped out."""

    @property
    def processes(self) -> Path:
        return self.path / "cgroup.procs"

    def set_limit(self, limit_bytes: int) -> None:
        with (self.path / self.limit).open("r+") as file:  # no ordinary folder has it
            file.write(str(limit_bytes))

    def used_bytes(self) -> int:
        return int((self.path / self.used).read_text())

    def kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        lines = (self.path / self.events).read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])


FIRST_VERSION = {
    "limit": "memory.limit_in_bytes",
    "used": "memory.usage_in_bytes",
    "events": "memory.oom_control",
    "swap": "memory.swappiness",
}


def made_cgroup(line: str) -> Cgroup | None:
    """Within the one that a line of `OWN_CGROUPS` names; None where that cannot be."""
    _, controllers, path = line.split(":", 2)
    if controllers not in ("", "memory"):
        return None
    parent = Path("/sys/fs/cgroup") / controllers / path.lstrip("/")
    names = FIRST_VERSION if controllers else {}
    cgroup = Cgroup(parent / f"sam-refine-test-{os.getpid()}", **names)
    try:
        cgroup.path.mkdir()
    except OSError:
        return None
    try:
        cgroup.set_limit(MEMORY_BYTES)
    except OSError:
        cgroup.path.rmdir()
        return None
    with suppress(OSError):  # a kernel without swap has no such file
        (cgroup.path / cgroup.swap).write_text("0")
    return cgroup


@pytest.fixture(scope="module")
def cgroup() -> Iterator[Cgroup | None]:
    """One within this process's own; None where none can be made."""
    made = map(made_cgroup, OWN_CGROUPS.read_text().splitlines())
    cgroup = next(filter(None, made), None)
    if cgroup is None:
        print("no memory cgroup of one's own can be had here: memory is not limited")
    yield cgroup
    if cgroup is not None:
        wait_until(lambda: not cgroup.processes.read_text())
        cgroup.path.rmdir()


@pytest.fixture(scope="module")
def python(cgroup, tmp_path_factory) -> str:
    """An executable that takes Python's arguments; none where there is no mount namespace."""
    script = tmp_path_factory.mktemp("confined") / "python"
    script.write_text(
        CONFINED.format(
            map_user="--map-root-user" if os.getuid() else "",
            shared_mib=SHARED_MIB,
            enter=f"echo $$ > {shlex.quote(str(cgroup.processes))}" if cgroup else "",
            python=shlex.quote(sys.executable),
        )
    )
    script.chmod(0o755)
    found = shutil.which("unshare")
    if not found or subprocess.run([script, "-c", ""], check=False).returncode:
        pytest.skip("no mount namespace of one's own can be had here")
    return str(script)


@pytest.fixture(scope="module")
def service(repository, python, tmp_path_factory):
    log = tmp_path_factory.mktemp("little_memory") / "serve.log"
    with supervised(repository, log, python=python) as service:
        yield service


def image(side: int) -> np.ndarray:
    return np.full((side, side, 3), 100, np.uint8)


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


GAVE_UP = "lock_exception", "ends itself"


def given_up(service) -> int:
    """How often a process has ended itself, for it, or the machine, stood still."""
    texts = service.log.read_text(), service.triton_log()
    return sum(text.count(sign) for text in texts for sign in GAVE_UP)


def start_anew(service, server: int) -> None:
    """A stub that has ended leaves shared memory behind, for which a server ends in a while."""
    with suppress(ProcessLookupError):
        os.kill(server, signal.SIGKILL)
    wait_until(lambda: service.server not in (0, server))


@pytest.fixture
def while_nobody_dies(service, send):
    """while_nobody_dies(act) -> what that gives; the same processes serve a request afterwards.

    It acts again, with a fresh server, where tritonserver has given up a lock of its own and ends
    itself, which it does where a stub gets no time for seconds; or where the stub has noticed that.
    """

    def while_nobody_dies(act):
        for _ in range(3):
            wait_until(service.is_ready)
            gave_up = given_up(service)
            server, stubs = service.server, set(service.stubs())
            done = act()
            after = send((SMALL, LABELS))
            if given_up(service) > gave_up:
                start_anew(service, server)
                continue
            assert after == [""]
            assert service.server == server
            assert set(service.stubs()) == stubs
            return done
        return pytest.fail("the machine stood still three times")

    return while_nobody_dies


def test_two_whose_outputs_do_not_fit_together_do_not_begin_together(send, while_nobody_dies):
    answers = while_nobody_dies(lambda: send((2048, SCORES_OUT), (2048, SCORES_OUT)))  # 128 MiB
    assert "" in answers
    for refused in filter(None, answers):
        assert refused.startswith("StatusCode.UNAVAILABLE: the tensors need about ")
        assert refused.endswith(" MiB are free now")


def test_client_tries_again_until_there_is_room(service, while_nobody_dies):
    """The instance whose region is too small now refuses what the other one has room for."""

    def refine():
        with RefineClient(service.url) as client:
            return client.refine(
                image(2048),
                logits=SCORES,
                options=RefineOptions(min_region_area=1),
                outputs=("logits",),
                timeout_s=120,
            )

    assert while_nobody_dies(refine).logits.shape == (8, 2048, 2048)


def test_all_at_once_succeed_or_are_refused_with_a_reason(send, while_nobody_dies):
    answers = while_nobody_dies(
        lambda: send(
            (SMALL, LABELS),
            (512, SCORES_OUT),
            (1024, LABELS),
            (2048, LABELS),
            (4096, LABELS),
            (4096, SCORES_OUT),  # 512 MiB, more than there is
            (8192, LABELS),
        )
    )
    for refused in filter(None, answers):
        has_reason = refused.startswith(("StatusCode.UNAVAILABLE: ", "StatusCode.INVALID_ARGUMENT"))
        assert has_reason or has_no_room(refused), refused


def test_what_is_larger_than_shared_memory_is_refused_for_good(send, while_nobody_dies):
    (refused,) = while_nobody_dies(lambda: send((2900, SCORES_OUT)))  # 257 MiB
    assert refused.startswith("StatusCode.INVALID_ARGUMENT: the tensors need about ")
    assert "of shared memory, and the server has 256 MiB in all" in refused


def labels(client: RefineClient, caller: int) -> np.ndarray:
    options = RefineOptions(min_region_area=1)
    return client.refine(image(SMALL), logits=SCORES, options=options, timeout_s=120).labels


@pytest.mark.parametrize("chosen", ["by the kernel", "sam_refine", "tritonserver"])
def test_process_that_the_kernel_kills_for_want_of_memory_costs_no_request(service, cgroup, chosen):
    """What it takes is its choice, unless one is offered; what follows may take another."""
    if cgroup is None:
        pytest.skip("no memory cgroup of one's own can be had here")
    wait_until(lambda: service.is_ready() and len(service.stubs()) == STUBS)
    server, stubs = service.server, service.stubs()
    victims = {"tritonserver": server, **{stub.model: stub.process_id for stub in stubs}}

    def use_up():
        if victim := victims.get(chosen):
            with suppress(FileNotFoundError):  # it was started anew, for what the last one has cost
                Path(f"/proc/{victim}/oom_score_adj").write_text(str(FIRST_TO_END))
        cgroup.set_limit(cgroup.used_bytes() + 128 * MIB)
        try:
            subprocess.run(
                [sys.executable, "-c", USE_UP, cgroup.processes, cgroup.path / cgroup.events],
                check=True,
            )
        finally:
            cgroup.set_limit(MEMORY_BYTES)

    kills = cgroup.kills()
    answers = beside_callers(labels, service.url, use_up, requests=2)
    assert cgroup.kills() > kills
    for each in answers:
        np.testing.assert_array_equal(each, [answers[0][0]] * 2)
    wait_until(service.is_ready)
    alive = {service.server, *(stub.process_id for stub in service.stubs())}
    ended = {server, *(stub.process_id for stub in stubs)} - alive
    assert ended
    assert chosen not in victims or victims[chosen] in ended


def test_shared_memory_that_a_killed_stub_leaves_behind_is_had_again(service):
    """Triton gives back nothing of a model of which a stub died in the midst of a request."""
    worn = 'sam_refine_server_restarts_total{cause="worn"}'
    before = service.metric(worn)
    others = Path(f"/proc/{service.process.pid}/root/dev/shm/others")
    others.write_bytes(bytes(160 * MIB))
    with RefineClient(service.url) as client:
        wanted = {"logits": SCORES, "outputs": ("logits",), "timeout_s": 120}

        def kill():
            for stub in service.stubs("sam_refine"):
                os.kill(stub.process_id, signal.SIGKILL)

        while service.metric(worn) == before:  # a kill between requests leaves nothing behind
            client.refine(image(1024), **wanted)  # 32 MiB
            answers = beside_callers(labels, service.url, kill, requests=2)
            for each in answers:
                np.testing.assert_array_equal(each, [answers[0][0]] * 2)
            waits = time.monotonic() + WORN_S
            while service.metric(worn) == before and time.monotonic() < waits:
                time.sleep(0.1)
        assert client.refine(image(1024), **wanted).logits.shape == (8, 1024, 1024)
    others.unlink()
    assert "MiB of shared memory, which reloads left behind, are missed" in service.log.read_text()


def test_server_ends_cleanly_where_shared_memory_is_full(service):
    path = Path(f"/proc/{service.process.pid}/root/dev/shm/full")
    with path.open("wb", buffering=0) as file, suppress(OSError):  # no space left
        while file.write(bytes(MIB)):
            pass
    service.process.terminate()
    assert service.process.wait() == 0
