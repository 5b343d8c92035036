"""`sam-refine tune`, as a user runs it: learned, put into the repository, served, evaluated."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES, MOST_MASKS, Outcome
from sam_refine_client import RefineClient, RefineOptions, RejectedError
from sam_refine_deploy import Server, ServerOptions
from support.command_line import one_line, run
from support.labelled.scenes import VOID, samples
from support.metrics import scrape
from support.servers import calls_of, server_ports


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six labelled scenes as files."""
    folder = tmp_path_factory.mktemp("scenes")
    for name in ("images", "scores", "truth"):
        (folder / name).mkdir()
    for number, sample in enumerate(samples(6)):
        Image.fromarray(sample.image).save(folder / f"images/{number}.png")
        np.save(folder / f"scores/{number}", sample.logits)
        Image.fromarray(sample.truth).save(folder / f"truth/{number}.png")
    return folder


def data(folder):
    return [folder / "images", "--logits", folder / "scores", "--truth", folder / "truth",
            "--ignore-label", VOID]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(repository, folder):
    """What tune printed and wrote, and a repository that has the judge."""
    done = run("tune", *data(folder), "--local", repository, "--out", folder / "tuned",
               "--json", folder / "figures.json")  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    with_judge = folder / "models"
    shutil.copytree(repository, with_judge)
    added = run("export", "--output", with_judge, "--judge", folder / "tuned")
    assert (added.returncode, added.stderr) == (0, "")
    assert "with the judge of" in added.stdout
    return done, with_judge


def test_tune_prints_what_it_writes(tuned, folder):
    done, _ = tuned
    found = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    assert done.returncode == (0 if found["recommended"] else 1)
    figures = found["cross_validated"]
    assert set(figures) >= {"coarse", "refined", "changed", "difference", "intervals"}
    lines = [line.split() for line in done.stdout.splitlines()]
    miou = [f"{figures[name]['miou']:.2f}" for name in ("coarse", "refined")]
    assert ["mIoU", *miou] in [line[:3] for line in lines]
    for name in ("judge.onnx", "preset.json", "card.json"):
        assert str(folder / "tuned" / name) in done.stdout


def test_repository_with_a_judge_is_as_its_card_says(tuned):
    _, with_judge = tuned
    done = run("export", "--inspect", with_judge)
    assert done.returncode == 0
    assert "matches its card" in done.stdout


@pytest.mark.triton
def test_learned_judge_gives_the_same_by_a_server_and_in_this_process(tuned, folder, tmp_path):
    _, with_judge = tuned
    preset = json.loads((folder / "tuned/preset.json").read_text(encoding="utf-8"))
    options = RefineOptions.from_parameters({**preset["options"], "min_gain": -0.5})
    server = ServerOptions(with_judge, log_file=tmp_path / "triton.log", **server_ports())
    with (
        Server(server),
        RefineClient(f"127.0.0.1:{server.grpc_port}") as remote,
        RefineClient.local(with_judge) as local,
    ):
        for number in range(2):
            found = [
                client.refine(
                    folder / f"images/{number}.png",
                    logits=np.load(folder / f"scores/{number}.npy"),
                    options=options,
                    outputs=("labels", "coarse_labels", "logits", "regions"),
                )
                for client in (remote, local)
            ]
            for name in ("labels", "coarse_labels", "logits"):
                np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))
            assert found[0].regions == found[1].regions
            np.testing.assert_array_equal(found[0].logits.argmax(axis=0), found[0].labels)
            assert found[0].timings["judge"] > 0
        assert any(region.outcome is Outcome.REFINED for region in found[0].regions)
        assert any(region.gain != 0 for region in found[0].regions)
        url = f"127.0.0.1:{server.grpc_port}"
        assert_judge_is_bounded(url)
        outputs = []
        for where in (["--url", url], ["--local", with_judge]):
            done = run("evaluate", *data(folder), *where, "--json", tmp_path / "out.json",
                       "--option-set", f"tuned={folder / 'tuned/preset.json'}",
                       "--option-set", "safe:preset=safe")  # fmt: skip
            assert (done.returncode, done.stderr) == (0, "")
            outputs.append(json.loads((tmp_path / "out.json").read_text(encoding="utf-8")))
        for name in ("tuned", "safe"):
            by_server, by_local = (each["option_sets"][name] for each in outputs)
            assert by_server["refined"] == by_local["refined"]
            assert by_server["changed"] == by_local["changed"]
        asked = 'nv_inference_request_success{model="sam_mask_judge",version="1"}'
        before = scrape(server.metrics_port)[asked]
        for client in (remote, local):
            health = client.health()
            assert health.is_healthy
            assert health.models["sam_mask_judge"]
        assert scrape(server.metrics_port)[asked] > before


def assert_judge_is_bounded(url):
    """As strangers call it."""
    inputs = {
        "mask_features": np.zeros((MOST_MASKS + 1, len(MASK_FEATURES)), np.float32),
        "change_features": np.zeros((0, len(CHANGE_FEATURES)), np.float32),
    }
    with (
        InferenceServerClient(url) as client,
        pytest.raises(InferenceServerException, match="size 0 of mask_features") as caught,
    ):
        calls_of(client)(inputs, ["mask_gains"], model="sam_mask_judge")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_preset_of_a_repository_without_a_judge_is_refused_with_what_to_do(repository, folder):
    with RefineClient.local(repository) as client, pytest.raises(RejectedError) as caught:
        client.refine(
            folder / "images/0.png",
            logits=np.load(folder / "scores/0.npy"),
            options=RefineOptions.of_preset("judged"),
        )
    assert "`sam-refine export --judge` puts it there" in str(caught.value)


def test_what_is_written_beside_a_preset_changes_it(tuned, folder, tmp_path):
    """Whatever the default is: nothing passes a judge that wants certainty."""
    _, with_judge = tuned
    image = [folder / "images/0.png", "--logits", folder / "scores/0.npy", "--local", with_judge]
    changed = {}
    for name, more in (
        ("preset", ["--preset", "safe"]),
        ("less", ["--preset", "safe", "--min-gain", "1"]),
        ("other", ["--preset", "safe", "--judge", "none", "--iou-threshold", "1"]),
    ):
        done = run("refine", *image, "--out", tmp_path / name, "--format", "npz", *more)
        assert (done.returncode, done.stderr) == (0, "")
        with np.load(tmp_path / name / "result.npz") as result:
            changed[name] = int((result["labels"] != result["coarse_labels"]).sum())
    assert changed["preset"] > 0
    assert changed["less"] == changed["other"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "best"], "--preset must be one of published, safe, judged, or a .json file"),
        (["--preset", "missing.json"], "--preset: missing.json cannot be read"),
    ],
)
def test_preset_that_is_none_is_wrong_usage(folder, arguments, message):
    done = run("refine", folder / "images/0.png", "--logits", folder / "scores/0.npy",
               "--out", folder / "out", *arguments)  # fmt: skip
    assert done.returncode == 2
    assert message in one_line(done.stderr)


def test_one_image_is_too_few(repository, folder):
    done = run("tune", *data(folder), "--limit", 1, "--local", repository, "--out", folder / "x")
    assert done.returncode == 1
    assert "at least 2 images are needed, got 1" in one_line(done.stderr)
    assert not (folder / "x/judge.onnx").exists()


def test_export_judge_of_a_folder_without_one_is_refused(repository, folder, tmp_path):
    shutil.copytree(repository, tmp_path / "models")
    done = run("export", "--output", tmp_path / "models", "--judge", folder / "images")
    assert done.returncode == 1
    assert "has no judge.onnx: `sam-refine tune` makes it" in one_line(done.stderr)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/judge.onnx").write_bytes(b"no graph")
    done = run("export", "--output", tmp_path / "models", "--judge", tmp_path / "bad")
    assert done.returncode == 1
    assert "judge.onnx must be an ONNX graph" in one_line(done.stderr)
    assert run("export", "--inspect", tmp_path / "models").returncode == 0
