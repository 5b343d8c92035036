import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from sam_refine.service.embedding_cache import EmbeddingCache, content_key, open_server_directory


def embedding(value):
    return np.full((1, 256, 64, 64), value, np.float32)


def test_get_gives_what_was_put_and_nothing_else(tmp_path):
    cache = EmbeddingCache(tmp_path, 4)
    assert cache.get("a") is None
    stored = np.random.default_rng(0).normal(size=(1, 256, 64, 64)).astype(np.float32)
    cache.put("a", stored)
    np.testing.assert_array_equal(cache.get("a"), stored)
    assert cache.get("b") is None


def test_put_beyond_the_capacity_drops_the_longest_unused(tmp_path):
    cache = EmbeddingCache(tmp_path, 3)
    for key in "abc":
        cache.put(key, embedding(0))
    cache.get("a")
    cache.put("d", embedding(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "d"]
    assert len(cache) == 3


def test_length_is_that_of_all_processes_and_leaves_out_what_is_being_written(tmp_path):
    cache = EmbeddingCache(tmp_path, 4)
    assert len(cache) == 0
    EmbeddingCache(tmp_path, 4).put("a", embedding(0))
    (tmp_path / ".b-123").touch()
    assert len(cache) == 1


def test_put_the_same_key_again_replaces_it(tmp_path):
    cache = EmbeddingCache(tmp_path, 2)
    cache.put("a", embedding(1))
    cache.put("a", embedding(2))
    assert cache.get("a").max() == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_capacity_zero_stores_nothing(tmp_path):
    cache = EmbeddingCache(tmp_path, 0)
    cache.put("a", embedding(0))
    assert list(tmp_path.iterdir()) == []
    assert cache.get("a") is None


def test_get_a_cut_file_is_a_miss(tmp_path):
    cache = EmbeddingCache(tmp_path, 2)
    cache.put("a", embedding(0))
    os.truncate(tmp_path / "a", 1000)
    assert cache.get("a") is None


def test_put_into_a_directory_that_was_removed_makes_it_again(tmp_path):
    cache = EmbeddingCache(tmp_path / "gone", 2)
    assert len(cache) == 0
    cache.put("a", embedding(1))
    np.testing.assert_array_equal(cache.get("a"), embedding(1))
    shutil.rmtree(tmp_path / "gone")
    assert cache.get("a") is None
    cache.put("b", embedding(2))
    np.testing.assert_array_equal(cache.get("b"), embedding(2))


def test_put_where_no_directory_can_be_made_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    cache = EmbeddingCache(tmp_path / "file" / "cache", 2)
    cache.put("a", embedding(0))
    assert cache.get("a") is None
    assert len(cache) == 0


@pytest.mark.parametrize("position", [0, 4 * 256 * 64 * 64 - 1, -1])
def test_get_of_a_file_in_which_a_bit_has_changed_is_a_miss_and_removes_it(tmp_path, position):
    cache = EmbeddingCache(tmp_path, 2)
    cache.put("a", embedding(1))
    stored = bytearray((tmp_path / "a").read_bytes())
    stored[position] ^= 1
    (tmp_path / "a").write_bytes(stored)
    assert cache.get("a") is None
    assert len(cache) == 0


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_get_of_values_that_are_not_finite_is_a_miss_whatever_their_digest(tmp_path, value):
    cache = EmbeddingCache(tmp_path, 2)
    values = embedding(1)
    values[0, 5, 6, 7] = value
    (tmp_path / "a").write_bytes(values.tobytes() + hashlib.sha256(values.tobytes()).digest())
    assert cache.get("a") is None
    assert len(cache) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_put_of_values_that_are_not_finite_stores_nothing(tmp_path, value):
    cache = EmbeddingCache(tmp_path, 2)
    cache.put("a", embedding(value))
    assert list(tmp_path.iterdir()) == []


def test_what_get_gives_can_be_written_to(tmp_path):
    cache = EmbeddingCache(tmp_path, 2)
    cache.put("a", embedding(1))
    cache.get("a")[...] = 5
    np.testing.assert_array_equal(cache.get("a"), embedding(1))


FILL = """
import sys
from pathlib import Path
import numpy as np
from sam_refine.service.embedding_cache import EmbeddingCache

cache = EmbeddingCache(Path(sys.argv[1]), 4)
for i in range(60):
    key = f"{sys.argv[2] if i % 2 else 'shared'}{i % 6}"
    found = cache.get(key)
    assert found is None or len(np.unique(found)) == 1
    cache.put(key, np.full((1, 256, 64, 64), i, np.float32))
"""


def test_processes_share_one_directory_and_never_see_half_an_embedding(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", FILL, str(tmp_path), name])
        for name in ("first", "second")
    ]
    for process in processes:
        assert process.wait(60) == 0
    EmbeddingCache(tmp_path, 4).put("last", embedding(0))
    assert len(list(tmp_path.iterdir())) <= 4


def test_content_key_is_of_pixels_shape_and_encoder():
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    other = image.copy()
    other[0, 0, 0] ^= 1
    keys = [
        content_key(image, None, "1"),
        content_key(other, None, "1"),
        content_key(image.reshape(6, 4, 3), None, "1"),
        content_key(image, None, "2"),
        content_key(image, "a", "1"),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key(np.asfortranarray(image), None, "1") == keys[0]


def test_content_key_with_a_name_does_not_look_at_the_pixels():
    black, white = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 255, np.uint8)
    assert content_key(black, "a", "1") == content_key(white, "a", "1")
    assert content_key(black, "a", "1") != content_key(white[:3], "a", "1")
    assert content_key(black, "a", "1") != content_key(black, "b", "1")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The directory for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_open_server_directory_is_one_for_all_processes_of_a_parent(temporary):
    code = "from sam_refine.service.embedding_cache import open_server_directory as o; print(o())"
    directories = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    }
    (directory,) = map(Path, directories)
    assert directory.parent == temporary
    assert directory.stat().st_mode & 0o777 == 0o700
    assert f"-{os.getpid()}-" in directory.name


def test_open_server_directory_removes_those_of_dead_servers(temporary):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = temporary / f"sam_refine-embeddings-{dead.pid}-1"
    living = temporary / f"sam_refine-embeddings-{os.getpid()}-1"
    for directory in (left, living):
        directory.mkdir()
        (directory / "key").touch()
    open_server_directory()
    assert not left.exists()
    assert (living / "key").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_open_server_directory_of_somebody_else_is_not_used(temporary, kind):
    directory = open_server_directory()
    directory.rmdir()
    (temporary / "elsewhere").mkdir()
    directory.symlink_to(temporary / "elsewhere") if kind == "link" else directory.touch()
    own = open_server_directory()
    assert own.parent == temporary
    assert own != directory
    assert own.stat().st_mode & 0o777 == 0o700
    assert own.name.startswith(f"sam_refine-embeddings-{os.getppid()}-")
