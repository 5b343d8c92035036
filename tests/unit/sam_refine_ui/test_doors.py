"""Only what the page uses is open."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sam_refine_ui.doors import UPLOAD, Doors, is_open, is_own, kept_bytes


@pytest.mark.parametrize(
    "path",
    ["/", "/assets/index.js", "/gradio_api/queue/join", "/gradio_api/file=/tmp/x/image.png"],
)
def test_doors_of_the_page_are_open(path):
    assert is_open(path)


@pytest.mark.parametrize(
    "path",
    [
        "/config",
        "/docs",
        "/gradio_api/call/refine",
        "/gradio_api/file=https://example.com/",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/proxy=https://example.hf.space/",
        "/gradio_api/runs",
        "/login",
        "",
    ],
)
def test_doors_that_the_page_has_no_use_for_are_shut(path):
    assert not is_open(path)


@pytest.mark.parametrize(
    ("host", "origin", "listens_on"),
    [
        ("127.0.0.1:7860", None, "127.0.0.1"),
        ("localhost:7860", "http://localhost:7860", "127.0.0.1"),
        ("[::1]:7860", "http://[::1]:7860", "::1"),
        ("127.0.0.1:7860", "http://127.0.0.1:7860", "localhost"),
        ("gpu.lab.example:7860", "http://gpu.lab.example:7860", "0.0.0.0"),
        ("page.lab.example", "https://page.lab.example", "10.0.0.1"),
    ],
)
def test_page_calls_itself(host, origin, listens_on):
    assert is_own(host, origin, listens_on)


@pytest.mark.parametrize(
    ("host", "origin", "listens_on"),
    [
        ("127.0.0.1:7860", "http://evil.example", "127.0.0.1"),
        ("127.0.0.1:7860", "http://127.0.0.1:9999", "127.0.0.1"),
        ("127.0.0.1:7860", "null", "127.0.0.1"),
        ("evil.example:7860", None, "127.0.0.1"),
        ("evil.example:7860", "http://evil.example:7860", "127.0.0.1"),
        ("127.0.0.1.evil.example", None, "127.0.0.1"),
        ("", None, "127.0.0.1"),
        ("gpu.lab.example:7860", "http://evil.example", "0.0.0.0"),
    ],
)
def test_another_site_does_not_call_the_page(host, origin, listens_on):
    assert not is_own(host, origin, listens_on)


@pytest.fixture
def page(tmp_path):
    """A page with room for 100 bytes of uploads, of which 60 are taken."""
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "image.png").write_bytes(bytes(60))
    app = Starlette(
        routes=[Route(UPLOAD, lambda request: PlainTextResponse("ok"), methods=["POST"])]
    )
    return TestClient(Doors(app, "127.0.0.1", tmp_path, 100), base_url="http://127.0.0.1")


@pytest.mark.parametrize(("size", "status"), [(40, 200), (41, 413)])
def test_uploads_are_bounded_in_all(page, size, status):
    assert page.post(UPLOAD, content=bytes(size)).status_code == status


def test_uploads_at_the_same_time_are_bounded_in_all(tmp_path):
    """The second comes while the first, with room for it alone, is not on disk yet."""
    statuses = []

    async def upload(app):
        async def send(message):
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        headers = [(b"host", b"127.0.0.1"), (b"content-length", b"60")]
        scope = {"type": "http", "path": UPLOAD, "headers": headers}
        await app(scope, None, send)

    async def slow(scope, receive, send):
        if not statuses:
            await upload(doors)
        await send({"type": "http.response.start", "status": 200})

    doors = Doors(slow, "127.0.0.1", tmp_path, 100)
    asyncio.run(upload(doors))
    asyncio.run(upload(doors))
    assert statuses == [413, 200, 200]


def test_upload_of_unknown_size_is_refused(page):
    assert page.post(UPLOAD, content=iter([b"x"])).status_code == 411


def test_uploads_that_are_not_there_take_no_room(tmp_path):
    assert kept_bytes(tmp_path / "missing") == 0
