"""An instance that stood still: what Triton makes of its answer is the next caller's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from sam_refine.contract.serving import heartbeat
from sam_refine.contract.serving.heartbeat import Heartbeat
from sam_refine.contract.serving.run_directory import INSTANCES
from sam_refine.contract.serving.supervised import SUPERVISED

ANSWER = """
import sys, time
from pathlib import Path
from sam_refine.contract.serving.heartbeat import Heartbeat

heartbeat = Heartbeat(Path(sys.argv[1]))
print("ready", flush=True)
if sys.argv[2] == "before":
    sys.stdin.readline()
with heartbeat.answering():
    if sys.argv[2] == "within":
        sys.stdin.readline()
    elif sys.argv[2] == "computes":
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            3 ** 3_000_000  # no other thread has a turn meanwhile
"""
STILL_S = 1.2


@pytest.mark.parametrize(
    ("when", "supervised", "ends"),
    [
        ("within", "1", True),
        ("before", "1", True),
        ("within", "", False),
        ("computes", "1", False),
        ("never", "1", False),
    ],
)
def test_instance_that_stood_still_ends_where_another_takes_its_place(
    tmp_path, when, supervised, ends
):
    (tmp_path / INSTANCES).mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", ANSWER, str(tmp_path), when],
        env=os.environ | {SUPERVISED: supervised},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if when in ("within", "before"):
        process.send_signal(signal.SIGSTOP)
        time.sleep(STILL_S)
        process.send_signal(signal.SIGCONT)
    said = process.communicate("\n")[1]
    assert process.returncode == (-signal.SIGKILL if ends else 0), said
    assert ("ends itself: it stood still" in said) == ends


def test_machine_that_slept_stood_still_too(tmp_path, monkeypatch):
    """The steady clock does not go on meanwhile; the one that Triton waits by does."""
    (tmp_path / INSTANCES).mkdir()
    ended = []
    monkeypatch.setattr(heartbeat, "end_this_process", ended.append)
    beats = Heartbeat(tmp_path)
    with beats.answering():
        pass
    assert ended == []
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 3600)
    with beats.answering():
        pass
    beats.end()
    assert len(ended) == 2  # before it answers, and instead of answering
