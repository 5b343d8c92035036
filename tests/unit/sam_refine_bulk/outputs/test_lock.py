"""Who holds a shard, and who only asks."""

from __future__ import annotations

import fcntl
import os
import time

from sam_refine_bulk.outputs.lock import is_locked, locked


def test_one_holds_it_and_the_next_does_not(tmp_path):
    path = tmp_path / "locks/a"
    assert not is_locked(path)
    with locked(path) as first, locked(path) as second:
        assert (first, second) == (True, False)
        assert is_locked(path)
    assert not is_locked(path)


def test_asking_writes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.touch()
    opened = []
    real = os.open

    def noted(place, flags, *mode):
        opened.append(flags)
        return real(place, flags, *mode)

    monkeypatch.setattr(os, "open", noted)
    assert not is_locked(path)
    assert not is_locked(tmp_path / "none")
    assert all(flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_CREAT for flags in opened)
    assert not (tmp_path / "none").exists()


def test_who_only_asks_does_not_make_a_worker_leave_the_shard(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.touch()
    asking = os.open(path, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: os.close(asking))
    with locked(path) as is_mine:
        assert is_mine
