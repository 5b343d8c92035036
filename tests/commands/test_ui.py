"""`sam-refine ui` as a user starts it, its page driven as the browser does."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import uuid
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from sam_refine_cli.app import make_app
from sam_refine_client import RefineClient, RefineOptions
from sam_refine_client.files.colours import class_palette
from support.cases import DEMO_DATA, coarse_scores
from support.command_line import SAM_REFINE, run
from support.servers import free_ports

PHOTO = DEMO_DATA / "photo.jpg"
EXAMPLE = DEMO_DATA.parent / "portrait"
PHOTO_PLACE, PAINTING, LABELS, SCORES, PALETTE = 1, 2, 3, 5, 8
"""Places among what Refine is given."""
ABOUT_MAP, ABOUT_WORK, RESULT, SLIDER, CHANGES, ENLARGED = 1, 2, 4, 6, 7, 8
LEGEND, NUMBERS, FILES, TABLE = 9, 10, 11, 12
"""Places among what it fills."""
LABEL_FILE = "The map"
SCORE_FILE = "Class scores"
CHANGED = "Changed pixels: press to enlarge"


class Page:
    """One visit of the page: what the browser sends when something is pressed."""

    def __init__(self, address):
        self._http = httpx.Client(base_url=address, timeout=60, trust_env=False)
        self._session = uuid.uuid4().hex
        self.html = self.get("/").text
        config = json.JSONDecoder().raw_decode(
            self.html, self.html.index("window.gradio_config = ") + len("window.gradio_config = ")
        )[0]
        self._components = {each["id"]: each["props"] for each in config["components"]}
        self._calls = config["dependencies"]

    def get(self, path):
        return self._http.get(path)

    def upload(self, name, content):
        """A file as a component holds it."""
        answer = self._http.post("/gradio_api/upload", files={"files": (name, content)})
        answer.raise_for_status()
        (path,) = answer.json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def values(self, label):
        """What the inputs of a button hold before anything was given."""
        return [self._components[place].get("value") for place in self._call(label)["inputs"]]

    def open_tab(self, label):
        call = self._call(label)
        answer = self._http.post("/gradio_api/run/predict", json=self._body(call, []))
        answer.raise_for_status()

    def press(self, label, values):
        """What the outputs of a button become; the call itself must not fail."""
        return self._run(self._call(label), values)

    def _run(self, call, values, data=None):
        body = self._body(call, values) | {"event_data": data}
        self._http.post("/gradio_api/queue/join", json=body)
        stream = self._http.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": self._session}
        )
        with stream as events:
            for line in events.iter_lines():
                event = json.loads(line.removeprefix("data:")) if line else {}
                if event.get("msg") == "process_completed":
                    assert event["success"], event
                    return event["output"]["data"]
        return pytest.fail("the page went away")

    def state(self):
        """What the page says about the server when it is opened, and ever again."""
        load, tick = (
            next(call for call in self._calls if event in [name for _, name in call["targets"]])
            for event in ("load", "tick")
        )
        assert load["outputs"] == tick["outputs"]
        answer = self._http.post("/gradio_api/run/predict", json=self._body(tick, []))
        answer.raise_for_status()
        return answer.json()["data"][0]

    def opened(self):
        """What the inputs of Refine become when the page is opened, and what the outputs then."""
        loaded = [call for call in self._calls
                  if "load" in [event for _, event in call["targets"]]][-1]  # fmt: skip
        (then,) = (call for call in self._calls if call["trigger_after"] == loaded["id"])
        _, _, _, *inputs = self._run(loaded, [])
        return inputs, self._run(then, [None, *inputs])

    def change(self, label, values, event="input", data=None):
        """What the outputs of an event become when it happens to a component."""
        call = self._call(label, event)
        if call["queue"] is not False:
            return self._run(call, values, data)
        answer = self._http.post("/gradio_api/run/predict", json=self._body(call, values))
        answer.raise_for_status()
        return answer.json()["data"]

    def _call(self, label, *events):
        """The call of an event of what has a label: by default, pressing it or opening the tab."""
        places = [place for place, each in self._components.items()
                  if label in (each.get("label"), each.get("value"))]  # fmt: skip
        targets = [[place, event] for place in places for event in events or ("click", "select")]
        return next(
            call for call in self._calls if any([*target] in targets for target in call["targets"])
        )

    def _body(self, call, values):
        return {"data": values, "fn_index": call["id"], "session_hash": self._session}


@contextmanager
def started(scratch, *arguments, **environment):
    """A page that is ready: its process and its address."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [*SAM_REFINE, "ui", "--port", str(port), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch), **environment},
    )
    try:
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}/" in line, process.communicate()
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(server, tmp_path_factory):
    """A page that refines with the test's server."""
    scratch, url = tmp_path_factory.mktemp("scratch"), f"127.0.0.1:{server.grpc_port}"
    with started(scratch, "--url", url) as (_, address):
        yield address


@pytest.fixture(scope="module")
def client(server):
    with RefineClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


def picture(page, file):
    content = page.get(f"/gradio_api/file={file['path']}").content
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def refined_labels(page, outputs):
    (path,) = [file["path"] for file in outputs[FILES] if file["path"].endswith("labels.png")]
    return np.asarray(Image.open(io.BytesIO(page.get(f"/gradio_api/file={path}").content)))


def no_result(outputs):
    """Whether nothing of an earlier result is left to be taken for this one's."""
    gone = (*(outputs[SLIDER] or ()), *(outputs[ENLARGED] or ()), outputs[CHANGES], outputs[FILES])
    return outputs[RESULT]["visible"] is False and not any(gone)


def overlap(first, second):
    return np.sum(first & second) / np.sum(first | second)


@pytest.mark.triton
def test_example_is_refined_as_by_the_client(server, address, client):
    scores = np.load(EXAMPLE / "coarse_scores.npy")
    expected = client.refine(EXAMPLE / "photo.jpg", logits=scores)
    page = Page(address)
    assert f"127.0.0.1:{server.grpc_port}" in page.html
    assert "Ready: press Refine." in page.state()
    _, _, _, *example = page.press("Show the example", [])
    outputs = page.press("Refine", example)
    np.testing.assert_array_equal(refined_labels(page, outputs), expected.labels)
    assert len(outputs[TABLE]["data"]) == len(expected.regions)
    assert outputs[TABLE]["data"][-1][0] == "3 suit"
    kept = sum(region.kept for region in expected.regions)
    assert f"{kept} of {len(expected.regions)}" in outputs[NUMBERS]
    assert "1 hair" in outputs[LEGEND]
    before, after = (picture(page, file) for file in outputs[SLIDER])
    assert before.shape == after.shape
    assert 0.001 < np.mean((before != after).any(-1)) < 0.2
    assert picture(page, outputs[CHANGES]).max() > 200, "changes are bright on the darkened photo"


@pytest.mark.triton
def test_example_is_refined_when_the_page_is_opened(address, client):
    expected = client.refine(EXAMPLE / "photo.jpg", logits=np.load(EXAMPLE / "coarse_scores.npy"))
    page = Page(address)
    _, outputs = page.opened()
    np.testing.assert_array_equal(refined_labels(page, outputs), expected.labels)


@pytest.mark.triton
def test_the_example_s_scores_go_with_a_photo_of_ones_own(address):
    page = Page(address)
    page.opened()
    photo = page.upload("photo.jpg", PHOTO.read_bytes())
    *outputs, painting, _, _, _, scores, names = page.change("Photo", [photo, None])
    assert no_result(outputs)
    assert (scores, names) == (None, "")
    assert painting["background"]
    again = page.change("Photo", [photo, None])
    assert again[-1]["__type__"] == again[-2]["__type__"] == "update", "one's own are kept"


@pytest.mark.triton
def test_the_example_s_photo_goes_with_a_map_of_ones_own(address):
    page = Page(address)
    for label in (LABEL_FILE, SCORE_FILE):
        page.opened()
        *outputs, _, photo, _, scores, _ = page.change(label, [None], "upload")
        assert no_result(outputs)
        assert photo is None
        assert (scores is None) == (label == LABEL_FILE)


@pytest.mark.triton
def test_what_is_pressed_in_the_changed_pixels_is_enlarged(address):
    page = Page(address)
    _, outputs = page.opened()
    most_changed = [picture(page, file) for file in outputs[ENLARGED]]
    (pressed,) = page.change(CHANGED, [None], "select", {"index": [0, 0], "value": None})
    corner = [picture(page, file) for file in pressed]
    assert [each.shape for each in corner] == [each.shape for each in most_changed]
    assert (corner[0] != most_changed[0]).mean() > 0.5


@pytest.mark.triton
def test_preset_is_refined_as_by_the_client(address, client):
    scores = np.load(EXAMPLE / "coarse_scores.npy")
    options = RefineOptions.of_preset("safe")
    expected = client.refine(EXAMPLE / "photo.jpg", logits=scores, options=options)
    page = Page(address)
    _, _, _, *example = page.press("Show the example", [])
    knobs = page.change("Preset", ["safe"])
    outputs = page.press("Refine", [*example[: -len(knobs)], *knobs])
    np.testing.assert_array_equal(refined_labels(page, outputs), expected.labels)


@pytest.mark.triton
def test_painting_is_refined_towards_what_was_painted_over(address, client):
    expected = client.refine(PHOTO, logits=coarse_scores())
    page = Page(address)
    layer = Image.new("RGBA", (300, 200))  # half the photo's size, as that of a large photo
    colour = *class_palette(3)[2].tolist(), 255
    ImageDraw.Draw(layer).ellipse([40, 45, 235, 190], fill=colour)  # about the saucer
    page.open_tab("Paint")
    values = page.values("Refine")
    values[PHOTO_PLACE] = page.upload("photo.jpg", PHOTO.read_bytes())
    layers = [page.upload("layer.png", png(np.asarray(layer)))]
    values[PAINTING] = {"background": None, "layers": layers, "composite": None, "id": None}
    labels = refined_labels(page, page.press("Refine", values))
    assert set(np.unique(labels)) == {0, 2}
    painted = np.asarray(layer.resize((600, 400), Image.Resampling.NEAREST))[..., 3] > 0
    saucer_and_what_is_on_it = np.isin(expected.labels, (2, 3, 4, 5))
    before, after = (overlap(found, saucer_and_what_is_on_it) for found in (painted, labels == 2))
    assert after > before


@pytest.mark.triton
def test_label_map_is_refined_in_its_own_numbers_and_what_is_none_changes_nothing(address):
    page = Page(address)
    page.open_tab("Label map")
    mask = np.zeros((40, 60), np.uint8)  # a tenth of the photo's size
    mask[5:33, 15:45] = 255
    values = page.values("Refine")
    values[PHOTO_PLACE] = page.upload("photo.jpg", PHOTO.read_bytes())
    values[LABELS] = page.upload("mask.png", png(mask))
    outputs = page.press("Refine", values)
    labels = refined_labels(page, outputs)
    assert set(np.unique(labels)) == {0, 255}
    assert np.any(labels != mask.repeat(10, 0).repeat(10, 1))
    assert "taken as a mask: two classes" in outputs[ABOUT_MAP]["value"]
    assert "stretched to the photo" in outputs[ABOUT_MAP]["value"]

    values[LABELS] = page.upload("mask.png", png(np.asarray(Image.open(PHOTO))))
    outputs = page.press("Refine", values)
    assert "mask.png in colours need &quot;Colours&quot;, one of" in outputs[ABOUT_MAP]["value"]
    assert "see below the map" in outputs[ABOUT_WORK]["value"]
    assert no_result(outputs)


@pytest.mark.triton
def test_void_that_the_palette_names_is_void_on_the_page(address):
    page = Page(address)
    page.open_tab("Label map")
    mask = np.zeros((400, 600, 3), np.uint8)
    mask[50:330, 150:450] = 224, 224, 192  # void in VOC
    values = page.values("Refine")
    values[PHOTO_PLACE] = page.upload("photo.jpg", PHOTO.read_bytes())
    values[LABELS], values[PALETTE] = page.upload("voc.png", png(mask)), "voc"
    outputs = page.press("Refine", values)
    np.testing.assert_array_equal(refined_labels(page, outputs), (mask[..., 0] > 0) * 255)
    assert "taken as a mask" not in outputs[ABOUT_MAP]["value"]


def test_page_without_a_server_says_so_and_leaves_nothing_when_it_ends(tmp_path):
    with started(tmp_path, "--url", "127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1") as (
        process,
        address,
    ):
        page = Page(address)
        assert "Not reachable: no answer" in page.state()
        _, _, _, *example = page.press("Show the example", [])
        outputs = page.press("Refine", example)
        assert "is the server running there" in outputs[ABOUT_WORK]["value"]
        assert no_result(outputs)
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGINT)
        ended = process.communicate()
        assert (process.returncode, *ended) == (0, "", "")
        assert list(tmp_path.iterdir()) == []


def test_page_shows_no_file_that_was_not_uploaded_and_fetches_nothing_from_elsewhere(tmp_path):
    (tmp_path / "scratch").mkdir()
    secret = tmp_path / "secret.npy"
    np.save(secret, coarse_scores())
    with started(tmp_path / "scratch", "--url", "127.0.0.1:1") as (process, address):
        page = Page(address)
        fetched = re.findall(r"(?:src|href)=\"(https?:[^\"]*)", page.html)
        fetched += re.findall(r"url\(['\"]?(https?:[^)]*)", page.get("/theme.css").text)
        assert fetched == []
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            assert httpx.get(f"{address}/", headers=headers, trust_env=False).status_code == 403
        for path in ("/config", "/gradio_api/info", "/gradio_api/runs", "/gradio_api/call/refine"):
            assert page.get(path).status_code == 404
        assert page.get(f"/gradio_api/file={secret}").status_code == 403
        _, _, _, *example = page.press("Show the example", [])
        example[SCORES] = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(AssertionError, match="it was not uploaded by a user"):
            page.press("Refine", example)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 0


def test_port_in_use_is_one_line_and_exit_code_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("ui", "--port", port)
    assert done.returncode == 1
    assert done.stderr == (
        f"sam-refine: port {port} on 127.0.0.1 cannot be used (Address already in use); "
        "choose another one\n"
    )


def test_local_without_an_export_says_what_makes_one(tmp_path):
    done = run("ui", "--local", tmp_path)
    assert done.returncode == 1
    assert "is not there: `sam-refine export` makes it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_its_extra_says_what_to_install(monkeypatch):
    found = {"gradio": None}
    monkeypatch.setattr("sam_refine_cli.console.find_spec", lambda name: found.get(name, name))
    done = CliRunner().invoke(make_app(), ["ui"])
    assert done.exit_code == 1
    assert done.stderr == 'sam-refine: gradio missing: pip install "sam-refine[ui]"\n'


@pytest.mark.parametrize("arguments", [["--port", 0], ["--url", "a:1", "--local", "."]])
def test_wrong_usage_is_exit_code_2(arguments):
    assert run("ui", *arguments).returncode == 2
