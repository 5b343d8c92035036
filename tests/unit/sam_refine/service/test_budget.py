"""What one process has reserved, another one knows; what has ended has reserved nothing."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam_refine.service.budget import Budget, Needs

MIB = 2**20
HOLDER = """
import sys
from pathlib import Path
import numpy as np
from sam_refine.service.budget import Budget, Needs
directory, memory, shared, region = sys.argv[1:]
budget = Budget(Path(directory), region)
with budget.reserved(lambda promised: Needs(int(memory), int(shared))):
    for line in sys.stdin:
        if line == "take\\n":
            taken = np.ones(int(memory) // 2, np.uint8)
        print("ready", flush=True)
        if line == "end\\n":
            break
print("given back", flush=True)
sys.stdin.read()
"""
"""A process that holds room, and does what it is told on stdin."""


class Holder:
    def __init__(self, directory: Path, memory: int, shared: int = 0, region: str = "") -> None:
        arguments = [str(directory), str(memory), str(shared), region]
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell("hold")

    def tell(self, what: str) -> None:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"


@pytest.fixture
def hold(tmp_path):
    """hold(memory, shared=0, region="") -> a process that holds that much."""
    holders = []

    def hold(*arguments):
        holders.append(Holder(tmp_path, *arguments))
        return holders[-1]

    yield hold
    for holder in holders:
        with holder.process:  # closes its pipes
            holder.process.kill()


def promised(budget):
    """What a request that comes now is told of others."""
    told = []

    def choose(promised):
        told.append(promised)
        return Needs(0)

    with budget.reserved(choose):
        pass
    return told[0].memory_bytes, told[0].shared_bytes


def test_alone_nothing_is_promised(tmp_path):
    assert promised(Budget(tmp_path)) == promised(Budget(None)) == (0, 0)


def test_other_process_s_room_is_known_until_it_gives_it_back(tmp_path, hold):
    budget = Budget(tmp_path)
    holders = hold(500 * MIB, 3 * MIB), hold(300 * MIB, 4 * MIB)
    memory, shared = promised(budget)
    assert 750 * MIB < memory <= 800 * MIB
    assert shared == 7 * MIB
    for holder in holders:
        holder.tell("end")
        assert holder.process.stdout.readline() == "given back\n"
    assert promised(budget) == (0, 0)


def test_room_of_a_process_that_was_killed_is_void(tmp_path, hold):
    budget = Budget(tmp_path)
    holder = hold(500 * MIB, 3 * MIB)
    assert promised(budget) != (0, 0)
    holder.process.kill()
    holder.process.wait()
    assert promised(budget) == (0, 0)
    assert not (tmp_path / str(holder.process.pid)).exists()


def test_memory_that_was_taken_is_not_counted_once_more(tmp_path, hold):
    holder = hold(400 * MIB)
    holder.tell("take")  # half of it
    memory, _ = promised(Budget(tmp_path))
    assert 150 * MIB < memory <= 200 * MIB


@pytest.fixture
def region(tmp_path, monkeypatch):
    """The path of a region of /dev/shm, of 2 MiB, that lies elsewhere."""
    monkeypatch.setattr("sam_refine.service.stub_region.SHARED_MEMORY", tmp_path)
    path = tmp_path / "region"
    path.write_bytes(bytes(2 * MIB))
    return path


def grow(region, size_bytes):
    with region.open("ab") as file:
        file.truncate(size_bytes)


def test_shared_memory_that_was_taken_is_not_counted_once_more(region, tmp_path):
    budget = Budget(tmp_path / "budget", region.name)
    with budget.reserved(lambda promised: Needs(20 * MIB, 8 * MIB)):
        assert promised(budget)[1] == 8 * MIB
        grow(region, 7 * MIB)
        memory, shared = promised(budget)
        assert memory <= 15 * MIB
        assert shared == 3 * MIB


@pytest.fixture
def answered(region, tmp_path):
    """The budget of a process that has done its work, and whose outputs are yet to be copied."""
    budget = Budget(tmp_path / "budget", region.name)
    with budget.reserved(lambda promised: Needs(20 * MIB, 8 * MIB, 6 * MIB)):
        grow(region, 4 * MIB)
    return budget


def test_room_for_outputs_is_held_after_the_work(answered):
    assert promised(answered)[1] == 6 * MIB


def test_room_for_outputs_that_are_there_is_held_no_longer(answered, region):
    grow(region, 10 * MIB)
    assert promised(answered)[1] == 0


def test_room_for_outputs_that_never_come_is_given_back(answered, monkeypatch):
    late_s = time.monotonic() + 60
    monkeypatch.setattr("sam_refine.service.budget.time.monotonic", lambda: late_s)
    assert promised(answered) == (0, 0)


def test_room_of_work_that_failed_is_given_back(region, tmp_path):
    budget = Budget(tmp_path / "budget", region.name)
    with (
        pytest.raises(ValueError, match="work"),
        budget.reserved(lambda promised: Needs(20 * MIB, 8 * MIB, 6 * MIB)),
    ):
        raise ValueError("work")
    assert promised(budget) == (0, 0)


def test_what_finds_no_room_holds_none(tmp_path):
    def refuse(promised):
        raise ValueError("no room")

    budget = Budget(tmp_path)
    with pytest.raises(ValueError, match="no room"), budget.reserved(refuse):
        pass
    assert promised(budget) == (0, 0)


def test_threads_of_a_process_share_what_it_holds():
    budget = Budget(None)
    with budget.reserved(lambda promised: Needs(500 * MIB)):
        with budget.reserved(lambda promised: Needs(300 * MIB)):
            assert 750 * MIB < promised(budget)[0] <= 800 * MIB
        assert 450 * MIB < promised(budget)[0] <= 500 * MIB
    assert promised(budget) == (0, 0)


def test_directory_that_was_removed_hinders_no_request(tmp_path):
    budget = Budget(tmp_path / "run" / "budget")
    assert promised(budget) == promised(budget) == (0, 0)
