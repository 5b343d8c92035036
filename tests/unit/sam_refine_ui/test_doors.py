"""Only what the page uses is open."""

import pytest

from sam_refine_ui.doors import is_open


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
