import hashlib
import os

import pytest

from sam_refine_export.checksum import sha256
from sam_refine_export.repository.manifest import NO_FILE, Comparison, compare, manifest

NOTHING = hashlib.sha256().hexdigest()


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "models/a/1").mkdir(parents=True)
    (tmp_path / "models/a/1/model.py").touch()
    (tmp_path / "models/card").touch()
    return tmp_path / "models"


def test_manifest_has_every_file_but_the_one_left_out(directory):
    (directory / "a/card").touch()
    assert manifest(directory, leave_out="card") == {"a/1/model.py": NOTHING, "a/card": NOTHING}


def test_manifest_an_empty_directory_counts(directory):
    """Triton takes it for a version of the model, and fails to load it."""
    (directory / "a/2").mkdir()
    assert manifest(directory, leave_out="card") == {"a/1/model.py": NOTHING, "a/2/": ""}


def test_manifest_byte_code_does_not_count_but_what_lies_beside_it_does(directory):
    (directory / "a/1/__pycache__").mkdir()
    assert manifest(directory, leave_out="card") == {"a/1/model.py": NOTHING}
    (directory / "a/1/__pycache__/model.cpython-311.pyc").touch()
    assert manifest(directory, leave_out="card") == {"a/1/model.py": NOTHING}
    (directory / "a/1/__pycache__/thesis.txt").touch()
    assert list(manifest(directory, leave_out="card")) == [
        "a/1/__pycache__/thesis.txt",
        "a/1/model.py",
    ]


def test_manifest_links_are_followed(directory, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/model.onnx").write_bytes(b"graph")
    (directory / "b").symlink_to(tmp_path / "elsewhere")
    (directory / "c").symlink_to(tmp_path / "elsewhere/model.onnx")
    checksum = sha256(tmp_path / "elsewhere/model.onnx")
    assert manifest(directory, leave_out="card") == {
        "a/1/model.py": NOTHING,
        "b/model.onnx": checksum,
        "c": checksum,
    }


def test_manifest_what_is_no_file_counts(directory):
    os.mkfifo(directory / "pipe")
    (directory / "nowhere").symlink_to("missing")
    (directory / "loop").symlink_to("loop")
    (directory / "a/up").symlink_to("..")
    assert manifest(directory, leave_out="card") == {
        "a/1/model.py": NOTHING,
        "a/up/": "",
        "loop": NO_FILE,
        "nowhere": NO_FILE,
        "pipe": NO_FILE,
    }


def test_compare_says_what_is_intact_changed_missing_and_added():
    found = {"same": "1", "other": "2", "new": "3"}
    comparison = compare(found, {"same": "1", "other": "1", "gone": "1"})
    assert comparison == Comparison(("same",), ("other",), ("gone",), ("new",))
    assert not comparison.is_equal
    assert compare(found, found).is_equal


def test_compare_directory_that_lost_its_files_was_not_added():
    comparison = compare({"a/2/": "", "b/1/": ""}, {"a/2/model.onnx": "1"})
    assert comparison == Comparison((), (), ("a/2/model.onnx",), ("b/1/",))
