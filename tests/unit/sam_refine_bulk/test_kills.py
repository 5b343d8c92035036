"""kill -9 before and after every step, alone and in sequences: each image is in the output once.

What is killed is a process; what refines takes no time, so that every place can be tried.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_refine_bulk import Source, Work, state_of, verify
from support.bulk.data_sets import computed, data_set, killed_run, results, sample, write_tar

PART = 6
WORK = Work(part=PART, concurrency=2)  # commits every 2 images
COUNTS = 3, 2
IMAGES = sum(COUNTS)
KILLED = -9
MOST_STEPS = 200


def run(source, output, kill_at, log, work=WORK):
    return killed_run(source, output, kill_at, log, work)


def assert_whole(source, output, keys):
    assert results(output) == Counter(keys)
    assert list(verify(output, Source(str(source)).shards())) == []


KEYS = [f"{number:04}" for number in range(IMAGES)]


def test_every_step_killed_leaves_each_image_once(tmp_path):
    source = data_set(tmp_path / "in", *COUNTS)
    kills = 0
    for kill_at in range(1, MOST_STEPS):
        output, log = tmp_path / f"out{kill_at}", tmp_path / f"log{kill_at}"
        code = run(source, output, kill_at, log)
        assert code in (0, KILLED)
        assert all(count == 1 for count in results(output).values()) or code == 0
        if code == 0:
            break
        kills += 1
        assert run(source, output, 0, log) == 0
        assert_whole(source, output, KEYS)
        assert len(computed(log)) <= IMAGES + PART
        assert state_of(output).done == IMAGES
        assert not list((output / ".bulk" / "work").rglob("*.tar"))
    assert kills > 8 * 4 + IMAGES  # parts, shards and images: it was killed everywhere


@pytest.mark.parametrize("kill_at", [40, 59, 73, 80, 91])
def test_no_more_than_a_part_is_done_again(tmp_path, kill_at):
    """Of a shard of many parts, and one that begins while the end of another is under way."""
    source, output, log = data_set(tmp_path / "in", 5, 45), tmp_path / "out", tmp_path / "log"
    work = Work(part=8, concurrency=2)
    assert run(source, output, kill_at, log, work) == KILLED
    before = len(computed(log))
    assert before > 8
    assert run(source, output, 0, log, work) == 0
    assert len(computed(log)) <= 50 + 8
    assert_whole(source, output, [f"{number:04}" for number in range(50)])


@settings(max_examples=25)
@given(st.lists(st.integers(1, 60), max_size=6))
def test_any_sequence_of_kills_leaves_each_image_once(kills):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source, output, log = data_set(root / "in", *COUNTS), root / "out", root / "log"
        happened = sum(run(source, output, kill_at, log) == KILLED for kill_at in kills)
        assert run(source, output, 0, log) == 0
        assert_whole(source, output, KEYS)
        assert len(computed(log)) <= IMAGES + happened * PART


def test_every_step_of_a_retry_killed_leaves_each_image_once(tmp_path):
    """A retry replaces a shard that is there: what is done stays, whenever it ends."""
    retry = Work(part=PART, concurrency=2, retry=True)
    broken = {"0002.png": b"", "0004.png": b""}
    members = {name: content for number in range(6) for name, content in sample(number).items()}
    keys = [f"{number:04}" for number in range(6)]
    kills = 0
    for kill_at in range(1, MOST_STEPS):
        source, output = tmp_path / f"in{kill_at}", tmp_path / f"out{kill_at}"
        log = tmp_path / f"log{kill_at}"
        without = {name: each for name, each in members.items() if name not in broken}
        write_tar(source / "s.tar", without)
        assert run(source, output, 0, log) == 0
        assert state_of(output).failed == 2
        write_tar(source / "s.tar", members)
        code = run(source, output, kill_at, log, retry)
        assert all(results(output)[key] == 1 for key in set(keys) - {"0002", "0004"})
        if code == 0:
            break
        assert code == KILLED
        kills += 1
        assert run(source, output, 0, log, retry) == 0
        assert_whole(source, output, keys)
        state = state_of(output)
        assert (state.done, state.failed) == (6, 0)
    assert kills > 15


@pytest.mark.parametrize("kill_at", [20, 35])
def test_killed_worker_of_two_leaves_the_other_to_do_its_shard(tmp_path, kill_at):
    source, output = data_set(tmp_path / "in", 9, 9), tmp_path / "out"
    log = tmp_path / "log"
    assert run(source, output, kill_at, log) == KILLED
    held = list((output / ".bulk" / "locks").rglob(".shard"))
    assert held  # its file is there, its lock is not
    assert run(source, output, 0, log) == 0
    assert_whole(source, output, [f"{number:04}" for number in range(18)])
