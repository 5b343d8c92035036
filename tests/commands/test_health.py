"""`sam-refine health` and `info`, as a user runs them."""

from __future__ import annotations

import json
import signal

import pytest

from sam_refine.contract import MODELS
from support.certificates import Authority, server_credentials
from support.command_line import one_line, run, start
from support.fake_triton import FakeTriton, silent_listener


@pytest.mark.triton
def test_health_of_a_server_is_exit_code_0(server):
    url = f"127.0.0.1:{server.grpc_port}"
    done = run("health", "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["server"].strip() == url
    assert rows["sam_mask_decoder"].strip() == "ready"
    assert rows["canary"].strip().endswith("ms")
    assert rows["healthy"].strip() == "yes"
    done = run("health", "--url", url, "--json")
    found = json.loads(done.stdout)
    assert (found["server"], found["is_healthy"], found["problems"]) == (url, True, [])
    assert found["models"] == {model.name: True for model in MODELS}
    assert found["canary_ms"] > 1


@pytest.mark.triton
def test_info_of_a_server_has_models_and_limits(server):
    url = f"127.0.0.1:{server.grpc_port}"
    done = run("info", "--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("triton 2.", "sam_image_encoder  ready  1", "67,108,864 pixels", "16,384 a side"):
        assert text in done.stdout
    lines = done.stdout.splitlines()
    found = json.loads(run("info", "--url", url, "--json").stdout)
    assert found["limits"]["max_classes"] == 4096
    assert [model["state"] for model in found["models"]] == ["ready"] * len(MODELS)
    assert found["differences"] == []
    assert len(found["networks_sha256"]) == 64
    assert ["networks", found["networks_sha256"]] in [line.split() for line in lines]


@pytest.mark.parametrize("command", ["health", "info"])
def test_local_needs_no_server_and_prints_a_long_path_whole(repository, tmp_path, command):
    models = tmp_path.joinpath(*["a_folder_of_a_long_name"] * 4)
    models.parent.mkdir(parents=True)
    models.symlink_to(repository, target_is_directory=True)
    done = run(command, "--local", models)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(models) in done.stdout
    assert "sam_mask_decoder" in done.stdout


def test_health_asks_each_address_and_is_1_where_one_is_not_healthy():
    with FakeTriton() as server:
        urls = ["--url", server.address, "--url", "127.0.0.1:1"]
        done = run("health", *urls, "--no-canary", "--json")
        asked = {seen.method for seen in server.seen}
    assert done.returncode == 1
    healthy, unreachable = (json.loads(line) for line in done.stdout.splitlines())
    assert (healthy["server"], healthy["is_healthy"]) == (server.address, True)
    assert unreachable["is_live"] is False
    assert "does `sam-refine serve` run there" in unreachable["problems"][0]
    assert asked == {"ServerLive", "ServerReady", "ModelReady"}


def test_health_that_is_wrong_is_a_line_for_each_problem():
    with FakeTriton() as server:
        del server.models["sam_embed"]
        server.models["sam_refine"] = ("UNAVAILABLE", "no numpy")
        done = run("health", "--url", server.address)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    of_server = f"sam-refine: {server.address}: "
    assert first == f"{of_server}sam_refine is not ready (no numpy); the server's log says why"
    assert second == f"{of_server}sam_embed is not there; serve what `sam-refine export` wrote"
    assert "not ready" in done.stdout


def test_info_goes_on_past_a_server_that_does_not_answer():
    with FakeTriton() as server:
        server.models["sam_embed"] = ("UNAVAILABLE", "no [numpy]")
        del server.configs["sam_refine"].output[0]
        done = run("info", "--url", "127.0.0.1:1", "--url", server.address)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith("127.0.0.1:1: ")
    assert "sam_embed is unavailable: no [numpy]\n" in done.stdout
    assert "differs: sam_refine has no output REFINED_LABELS\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "nowhere"], "url must be host:port, got 'nowhere'"),
        (["--header", "secret"], "--header must be NAME=VALUE"),
        (["--header", "bad name=x"], "headers must have names of letters"),
        (["--tls-cert", __file__], "--tls-cert and --tls-key go together"),
        (["--tls-ca", __file__], "root_certificates must be a PEM file"),
        (["--tls-ca", "missing.pem"], "missing.pem"),
        (["--timeout-s", "0"], "--timeout-s must be > 0, got 0"),
        (["--attempts", "0"], "--attempts"),
        (["--local", ".", "--url", "a:1"], "it goes without --url"),
        (["--local", ".", "--tls"], "it goes without --url, --tls"),
    ],
)
def test_connection_that_cannot_be_is_one_line_and_exit_code_2(arguments, message):
    done = run("health", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in one_line(done.stderr)
    assert "secret" not in done.stderr


def test_local_without_an_export_says_what_makes_one(tmp_path):
    done = run("health", "--local", tmp_path)
    assert done.returncode == 1
    assert "is not there: `sam-refine export` makes it" in one_line(done.stderr)


@pytest.mark.parametrize("command", ["health", "info"])
def test_interrupted_question_ends_at_once(command):
    with FakeTriton() as server:
        method = {"health": "ServerLive", "info": "ServerMetadata"}[command]
        server.hangs.add(method)
        process = start(command, "--url", server.address)
        server.wait_for(1, method)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    assert one_line(stderr) == "interrupted"


def test_timeout_ends_what_nobody_answers():
    with silent_listener() as port:
        done = run("health", "--url", f"127.0.0.1:{port}", "--timeout-s", 0.3)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"127.0.0.1:{port}: no answer: ")


def test_tls_of_both_sides(tmp_path):
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    own = ours.certificate("somebody")
    tls = ["--tls-ca", theirs.root, "--tls-cert", own.chain, "--tls-key", own.key]
    credentials = server_credentials(theirs.certificate("triton"), clients=ours)
    with FakeTriton(credentials=credentials) as server:
        url = ["--url", server.address, "--no-canary"]
        done = run("health", *url, *tls, "--tls-server-name", "triton")
        assert (done.returncode, done.stderr) == (0, "")
        assert run("health", *url, *tls).returncode == 1  # the certificate is of another name
        assert run("health", *url, "--tls").returncode == 1
        assert run("health", *url).returncode == 1
