"""What a server writes goes to stderr and to a short file."""

import os

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
