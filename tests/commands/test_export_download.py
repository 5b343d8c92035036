"""`sam-refine export --download`, from a server of this machine in place of Meta's."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sam_refine_cli.commands.export import download_checkpoint
from sam_refine_export.variants import PublishedCheckpoint

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small file on a server, as a row of the variants would name it; the cache is empty."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/sam.pth").write_bytes(CONTENT)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/sam.pth"
    checksum = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setenv("SAM_REFINE_CACHE", str(tmp_path / "cache"))
    yield PublishedCheckpoint("Meta", "sam.pth", url, checksum, len(CONTENT), "Apache-2.0")
    server.shutdown()
    server.server_close()
    thread.join()


def test_download_checkpoint_puts_it_into_the_cache_and_shows_how_far_it_is(
    published, tmp_path, capsys
):
    path = download_checkpoint(published)
    assert path == tmp_path / "cache/checkpoints/sam.pth"
    assert path.read_bytes() == CONTENT
    assert "sam.pth" in capsys.readouterr().err


def test_download_checkpoint_goes_on_where_the_last_one_stopped(published, tmp_path):
    directory = tmp_path / "cache/checkpoints"
    directory.mkdir(parents=True)
    (directory / "sam.pth.part").write_bytes(CONTENT[:1000])
    assert download_checkpoint(published).read_bytes() == CONTENT
    assert [path.name for path in directory.iterdir()] == ["sam.pth"]
