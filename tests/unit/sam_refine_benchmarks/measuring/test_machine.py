from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sam_refine_benchmarks.measuring import machine
from sam_refine_benchmarks.sides.server import stub_model

CPUINFO = """\
processor\t: 0
model name\t: AMD EPYC 9554
flags\t\t: fpu sse2 avx avx2 avx512f

processor\t: 1
model name\t: AMD EPYC 9554
"""


def test_cpu_model_names_the_widest_vectors():
    assert machine.cpu_model(CPUINFO) == "AMD EPYC 9554 avx512f"


def test_cpu_model_of_an_unknown_processor_is_its_architecture():
    assert machine.cpu_model("processor\t: 0\n")


def test_describe_says_on_what_was_measured():
    described = machine.describe()
    assert described["cores"] >= 1
    assert {"numpy", "torch", "onnxruntime"} <= set(described["versions"])


def test_others_share_is_what_the_cores_worked_beyond_this_process():
    start = machine.CoreTimes(wall_s=100.0, busy_s=50.0, own_s=20.0)
    end = machine.CoreTimes(wall_s=110.0, busy_s=65.0, own_s=30.0)
    assert machine.others_share(start, end, cores=2) == 0.25


def test_others_share_is_never_negative():
    start, end = machine.CoreTimes(0.0, 0.0, 0.0), machine.CoreTimes(1.0, 0.9, 1.0)
    assert machine.others_share(start, end, cores=2) == 0


@pytest.mark.parametrize(
    ("others_s", "disturbed"), [(0.0, False), (2.0, False), (2.1, True), (20.0, True)]
)
def test_is_disturbed_where_others_use_more_than_a_tenth_of_the_cores(others_s, disturbed):
    start = machine.CoreTimes(0.0, 0.0, 0.0)
    end = machine.CoreTimes(10.0, 5.0 + others_s, 5.0)
    assert machine.is_disturbed(start, end, cores=2) is disturbed


def test_is_disturbed_allows_for_the_grain_of_short_times():
    start, end = machine.CoreTimes(0.0, 0.0, 0.0), machine.CoreTimes(0.01, 0.04, 0.0)
    assert not machine.is_disturbed(start, end, cores=2)


WORK = """
from sam_refine_benchmarks.measuring.machine import core_times

first, numbers = core_times(), list(range(2_000_000))
numbers.sort(key=str)
second = core_times()
assert all(later > earlier for earlier, later in zip(first, second, strict=True)), (first, second)
"""


def test_core_times_grow_with_work():
    # In a process of its own: what this one's children worked is unknown once they have ended.
    environment = {**os.environ, "PYTHONPATH": str(machine.ROOT / "benchmarks")}
    subprocess.run([sys.executable, "-c", WORK], env=environment, check=True)


def test_stub_model_is_the_directory_in_the_repository():
    command = ["/b/triton_python_backend_stub", "/srv/models/sam_refine/1/model.py", "region", "1"]
    assert stub_model(command) == "sam_refine"
