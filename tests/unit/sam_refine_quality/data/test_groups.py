"""Groups of images, from a file."""

from __future__ import annotations

import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_quality.data.groups import load_groups


def test_lines_are_a_name_and_its_group(tmp_path):
    path = tmp_path / "groups.txt"
    path.write_text("a one\n\n  b\ttwo  \nwith space in it one\nc three\n", encoding="utf-8")
    assert load_groups(path, ["b", "a", "with space in it"]) == ["two", "one", "one"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a one\nb\n", r"line 2: must be an image's name, a space and its group, got 'b'"),
        (b"a one\na two\nb two\n", r"line 2: 'a' comes twice"),
        (b"a one\n", r"must have a line for each image, got none for 'b' \(1 in all\)"),
        (b"\xff\xfe one\n", r"must be a text file in UTF-8"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, text, message):
    path = tmp_path / "groups.txt"
    path.write_bytes(text)
    with pytest.raises(InvalidRequestError, match=message):
        load_groups(path, ["a", "b"])
