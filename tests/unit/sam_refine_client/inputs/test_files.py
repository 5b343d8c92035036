"""Class names and options of files, and what is said of files that are something else."""

from __future__ import annotations

import re

import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_client.inputs.files import load_class_names
from sam_refine_client.reading.notes import Notes


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
        ("labels.json", '{"labels": [{"name": "sky", "color": [1, 2, 3]}]}', ["sky"]),
        ("data.yaml", "nc: 2\nnames: [sky, tree]\n", ["sky", "tree"]),
        ("data.yml", "names:\n  0: sky\n  1: tree\n", ["sky", "tree"]),
        ("names.txt", "# classes\nsky\ntree\n", ["sky", "tree"]),
        ("names.txt", "0 sky\n1 palm tree\n", ["sky", "palm tree"]),
        ("names.txt", "0: sky\n1: tree\n", ["sky", "tree"]),
        ("names.txt", "0\tsky\n3\ttree\n", ["sky", "1", "2", "tree"]),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nsky:0,0,9::\ntree:::\n",
            ["sky", "tree"],
        ),
        ("colours.txt", "0 0 255 sky\n0 128 0 palm tree\n", ["sky", "palm tree"]),
        ("colours.txt", "sky 0 0 255\npalm tree 0 128 0\n", ["sky", "palm tree"]),
        ("names.csv", "id,name\n0,sky\n1,tree\n", ["sky", "tree"]),
        ("names.csv", "name,r,g,b\nsky,1,2,3\ntree,3,4,5\n", ["sky", "tree"]),
        ("names.csv", 'Idx,Ratio,Name\n0,0.1,sky\n1,0.2,"tree, palm"\n', ["sky", "tree, palm"]),
        ("names.csv", "sky,0\ntree,1\n", ["sky", "tree"]),
        ("names.csv", "name\nsky\ntree\n", ["sky", "tree"]),
        ("names.tsv", "id\tname\n1\ttree\n0\tsky\n", ["sky", "tree"]),
        ("names.txt", "2 wheels\n2 doors\n", ["2 wheels", "2 doors"]),
        ("names.txt", "tree, palm\nsky\n", ["tree, palm", "sky"]),
        ("names.txt", "\"sky\"\n'tree, palm'\n", ["sky", "tree, palm"]),
        ("names.txt", '"sky"\n6" pipe\n', ['"sky"', '6" pipe']),
    ],
)
def test_class_names_are_read_in_the_order_of_ids(tmp_path, name, text, names):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_class_names(tmp_path / name, Notes()) == names


def test_class_names_of_labelme_count_without_what_it_ignores(tmp_path):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ncat\n")
    notes = Notes()
    assert load_class_names(tmp_path / "labels.txt", notes) == ["_background_", "cat"]
    (said,) = notes.sentences
    assert said.endswith(
        "__ignore__ is no class, as in LabelMe, where it is -1: _background_ is class 0"
    )


def test_class_names_of_windows_in_utf_16_are_read(tmp_path):
    (tmp_path / "a.txt").write_text("sky\ntree é\n", encoding="utf-16")
    assert load_class_names(tmp_path / "a.txt", Notes()) == ["sky", "tree é"]


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("1,sky\n2,tree\n", ["0", "sky", "tree"], "counts from 1: class 0 is called 0"),
        ("1 sky\n2 tree\n", ["0", "sky", "tree"], "numbers before the names are taken as class id"),
    ],
)
def test_class_names_by_ids_that_may_be_meant_otherwise_are_said(tmp_path, text, names, said):
    (tmp_path / "a.txt").write_text(text)
    notes = Notes()
    assert load_class_names(tmp_path / "a.txt", notes) == names
    assert said in notes.sentences[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe\x00", "must be a text file in UTF-8"),
        ("a.txt", b"sky\n\ntree\n", "must have a name on each line, got none on line 2"),
        ("a.txt", b"# nothing\n", "must have a name on each line, got none"),
        ("a.txt", b"sky, tree, car\n", "must have a name on each line, or an id and a name"),
        ("a.csv", b"x,y,z\n1,2,3\n", "or a heading with the column name, got 'x, y, z'"),
        ("a.pbtxt", b"item {\n id: 1\n}\n", "got code or markup: 'item {'"),
        ("a.py", b"CLASSES = ('sky', 'tree')\n", "got code or markup"),
        ("a.xml", b"<labels>\n", "got code or markup: '<labels>'"),
        ("a.yaml", b"a: [", "must be YAML"),
        ("a.yaml", b"3", "must have a list of names"),
        ("a.json", b"[]", "must have a list of names"),
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
        load_class_names(tmp_path / name, Notes())
