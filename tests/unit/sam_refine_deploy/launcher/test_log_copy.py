"""What a server writes goes to stderr and to a short file."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from sam_refine_deploy.launcher.log_copy import LogCopy


@pytest.fixture
def copied(tmp_path, capfdbinary):
    """copied(chunks, most_bytes) -> what is in the file and on stderr, at the end of the pipe."""

    def copy(chunks, most_bytes):
        read, write = os.pipe()
        with (tmp_path / "log").open("ab") as log:
            copy = LogCopy(os.fdopen(read, "rb"), log, most_bytes)
            for chunk in chunks:
                os.write(write, chunk)
            os.close(write)
            copy.wait(60)
        return (tmp_path / "log").read_bytes(), capfdbinary.readouterr().err

    return copy


def test_log_is_in_the_file_and_on_stderr(copied):
    assert copied([b"one\n", b"t", b"wo\n"], 100) == (b"one\ntwo\n", b"one\ntwo\n")


def test_file_is_emptied_before_it_is_too_long_and_stderr_has_everything(copied):
    lines = [b"%06d\n" % number for number in range(20_000)]
    file, stderr = copied(lines, 70_000)
    assert stderr == b"".join(lines)
    assert len(file) <= 70_000
    assert stderr.endswith(file)


def test_disk_that_is_full_keeps_nothing_from_stderr(capfdbinary):
    read, write = os.pipe()
    with Path("/dev/full").open("ab", buffering=0) as log:
        copy = LogCopy(os.fdopen(read, "rb"), log)
        for chunk in (b"one\n", b"two\n"):
            os.write(write, chunk)
        os.close(write)
        copy.wait(60)
    assert capfdbinary.readouterr().err == b"one\ntwo\n"


def test_stderr_that_nobody_reads_keeps_nothing_from_the_file(tmp_path, monkeypatch):
    unread, stderr = os.pipe()
    os.close(unread)
    read, write = os.pipe()
    with os.fdopen(stderr, "w") as closed, (tmp_path / "log").open("ab") as log:
        monkeypatch.setattr("sys.stderr", closed)
        copy = LogCopy(os.fdopen(read, "rb"), log)
        for chunk in (b"one\n", b"two\n"):
            os.write(write, chunk)
        os.close(write)
        copy.wait(60)
        with suppress(OSError):
            closed.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
