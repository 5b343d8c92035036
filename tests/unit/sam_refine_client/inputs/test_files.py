"""Class names and options of files, and what is said of files that are something else."""

from __future__ import annotations

import re

import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_client.inputs.files import load_class_names


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("names.txt", "sky\ntree é\n", ["sky", "tree é"]),
        ("names.txt", "\ufeffsky\r\ntree\r\n\r\n", ["sky", "tree"]),
        ("names.json", '["sky", "tree"]', ["sky", "tree"]),
        ("names.json", '{"0": "sky", "1": "tree"}', ["sky", "tree"]),
        ("names.json", '{"1": "tree", "0": "sky"}', ["sky", "tree"]),
        ("names.json", '{"tree": 1, "sky": 0}', ["sky", "tree"]),
        ("names.json", '{"0": "sky", "3": "tree"}', ["sky", "1", "2", "tree"]),
        ("config.json", '{"id2label": {"0": "sky"}, "x": 1}', ["sky"]),
        ("config.json", '{"label2id": {"sky": 0}}', ["sky"]),
        ("coco.json", '{"categories": [{"id": 1, "name": "tree"}], "images": []}', ["0", "tree"]),
    ],
)
def test_class_names_are_read_in_the_order_of_ids(tmp_path, name, text, names):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_class_names(tmp_path / name) == names


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe\x00", "must be a text file in UTF-8"),
        ("a.txt", b"sky\n\ntree\n", "must have a name on each line, got none on line 2"),
        ("a.json", b"{", "must be JSON"),
        ("a.json", b"[1, 2]", "must have a list of names, or an object of names by id"),
        ("a.json", b"{}", "must have a list of names, or an object of names by id"),
        ("a.json", b'{"a": "b"}', "must have a list of names, or an object of names by id"),
        ("a.json", b'{"sky": 0, "tree": 0}', "must have one name for each id, got two for 0"),
        ("a.json", b'{"99999999": "sky"}', "must have class ids from 0, got '99999999'"),
    ],
)
def test_class_names_that_are_none_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        load_class_names(tmp_path / name)
