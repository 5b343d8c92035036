"""`sam-refine bulk` and `plan`, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_refine_bulk import Source, verify
from sam_refine_client import RefineClient, RefineOptions
from support.bulk.data_sets import data_set, npy, results, write_tar
from support.cases import DEMO_DATA
from support.command_line import one_line, run, start
from support.fake_triton import FakeTriton
from support.servers import wait_until

NOBODY = "127.0.0.1:1"


def photo_set(path: Path) -> Path:
    """Three shards of the demo's photo, twice each."""
    members = {"photo.jpg": (DEMO_DATA / "photo.jpg").read_bytes(),
               "photo.logits.npy": (DEMO_DATA / "coarse_scores.npy").read_bytes()}  # fmt: skip
    for shard in "abc":
        names = [(f"{shard}{number}{name[5:]}", content) for number in range(2)
                 for name, content in members.items()]  # fmt: skip
        write_tar(path / f"{shard}.tar", names)
    return path


def children(process: subprocess.Popen[str]) -> list[int]:
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [pid for pid in map(int, found)
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]  # fmt: skip


@pytest.mark.triton
def test_bulk_killed_twice_has_each_image_once_and_right(server, tmp_path):
    source, out = photo_set(tmp_path / "in"), tmp_path / "out"
    url = f"127.0.0.1:{server.grpc_port}"
    arguments = ["bulk", source, out, "--url", url, "--part", 1, "--concurrency", 1,
                 "--min-region-area", 225]  # fmt: skip

    def parts():
        return len(list(out.rglob("*.tar")))

    first = start(*arguments)
    wait_until(lambda: parts() or first.poll() is not None)
    first.kill()  # -9
    first.communicate()
    assert results(out).total() < 6

    second = start(*arguments, "--workers", 2, "--metrics-file", tmp_path / "bulk.prom")
    wait_until(lambda: len(children(second)) == 2 or second.poll() is not None)
    os.kill(children(second)[0], signal.SIGKILL)
    stdout, stderr = second.communicate()
    assert second.returncode == 0, stderr
    assert "a worker ended by SIGKILL: here is another" in stderr
    assert results(out) == Counter(f"{shard}{number}" for shard in "abc" for number in "01")
    assert list(verify(out, Source(str(source)).shards())) == []
    assert ["images", "done", "6"] in [line.split() for line in stdout.splitlines()]
    assert 'sam_refine_bulk_images{outcome="done",rank="0"} 6.0' in (
        (tmp_path / "bulk.prom").read_text()
    )

    with RefineClient(url) as client:
        expected = client.refine(
            DEMO_DATA / "photo.jpg",
            logits=np.load(DEMO_DATA / "coarse_scores.npy"),
            options=RefineOptions(min_region_area=225),
        )
    with tarfile.open(out / "b.tar") as tar:
        assert np.array_equal(Image.open(tar.extractfile("b1.labels.png")), expected.labels)
        facts = json.load(tar.extractfile("b1.json"))
    assert facts == {"key": "b1", "shard": "b", "height": 400, "width": 600,
                     "regions": len(expected.regions),
                     "kept": sum(region.kept for region in expected.regions),
                     "warnings": []}  # fmt: skip

    other = run("bulk", source, out, "--url", url)
    assert other.returncode == 1
    assert "belongs to another job: min_region_area was 225" in one_line(other.stderr)


@pytest.mark.triton
def test_failed_images_are_listed_and_done_once_mended(server, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    name, scores = "a.logits.npy", (DEMO_DATA / "coarse_scores.npy").read_bytes()
    photo = {"a.jpg": (DEMO_DATA / "photo.jpg").read_bytes()}
    write_tar(source / "s.tar", photo | {name: npy(np.zeros(3))})
    (source / "t.tar").touch()
    url = f"127.0.0.1:{server.grpc_port}"
    done = run("bulk", source, out, "--url", url, "--min-region-area", 225)
    assert done.returncode == 1
    assert "s/a: logits must have shape (C, h, w), got (3,)" in done.stderr
    assert "1 shards are damaged; mend them and run again" in done.stderr
    status = run("bulk", "status", out, "--json", "--failed")
    assert status.returncode == 1
    facts = json.loads(status.stdout)
    assert (facts["done"], facts["failed"], facts["reasons"]) == (0, 1, {"input": 1})
    assert facts["images"][0]["key"] == "a"
    assert "no whole tar" in facts["damaged"]["t"]
    assert "t is not done" in run("bulk", "verify", out, "--no-input").stderr

    write_tar(source / "s.tar", photo | {name: scores})
    write_tar(source / "t.tar", {})
    done = run("bulk", "retry-failed", out, "--url", url)
    assert done.returncode == 0, done.stderr
    assert run("bulk", "status", out).returncode == 0
    verified = run("bulk", "verify", out)
    assert (verified.returncode, verified.stdout) == (0, f"{out} is whole\n")


def test_bulk_does_not_go_on_with_other_networks_at_the_server(tmp_path):
    source, out = data_set(tmp_path / "in", 1), tmp_path / "out"
    with FakeTriton() as server, FakeTriton() as other:
        arguments = ["bulk", source, out, "--url", server.address]
        server.say_networks("ab12")
        assert run(*arguments).returncode == 0
        assert run(*arguments).returncode == 0
        server.say_networks("cd34")
        refused = run(*arguments)
        again = run("bulk", "retry-failed", out, "--url", server.address)
        both = run(*arguments[:-1], f"{server.address},{other.address}")
    for each in (refused, again):
        assert each.returncode == 1
        assert "belongs to another job: networks_sha256 was 'ab12', is 'cd34'" in (
            one_line(each.stderr)
        )
    assert both.returncode == 1
    assert f"{server.address} has cd34, {other.address} has None" in one_line(both.stderr)


def test_bulk_without_a_server_waits_and_ends_and_records_nothing(tmp_path):
    source, out = data_set(tmp_path / "in", 1), tmp_path / "out"
    done = run("bulk", source, out, "--url", NOBODY, "--wait-s", 0, "--attempts", 1)
    assert done.returncode == 1
    assert "does `sam-refine health` find it" in done.stderr or "is the server running" in (
        done.stderr
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rank", "2"], 2, "--rank goes with --world-size"),
        (["--part", "0"], 2, "--part"),
        (["--logits", "."], 1, "goes without --logits"),
    ],
)
def test_bulk_says_what_is_wrong_with_its_arguments(tmp_path, arguments, code, message):
    source = data_set(tmp_path / "in", 1)
    card = tmp_path / "card.json"
    card.touch()
    done = run("bulk", source, tmp_path / "out", "--model-card", card, *arguments)
    assert done.returncode == code
    assert message in one_line(done.stderr)


def test_status_of_another_folder_says_so(tmp_path):
    done = run("bulk", "status", tmp_path)
    assert done.returncode == 1
    assert "is no output of this version's `sam-refine bulk`" in one_line(done.stderr)


def test_share_of_a_rank_comes_from_the_environment(tmp_path):
    source, out, card = data_set(tmp_path / "in", 1, 1), tmp_path / "out", tmp_path / "card.json"
    card.touch()
    environment = os.environ | {"JOB_COMPLETION_INDEX": "3", "WORLD_SIZE": "4"}
    done = run("bulk", source, out, "--model-card", card, "--url", NOBODY, env=environment)
    assert done.returncode == 0, done.stderr
    assert "rank 3 of 4 (JOB_COMPLETION_INDEX): 0 shards" in done.stderr
    assert not list(out.glob("*.tar"))


def test_images_that_are_left_out_are_said(tmp_path):
    source, card = tmp_path / "in", tmp_path / "card.json"
    (source / "below").mkdir(parents=True)
    for each in ("a.png", "below/b.png"):
        (source / each).touch()
    (source / "link").symlink_to(source / "below")
    card.touch()
    done = run("bulk", source, tmp_path / "out", "--model-card", card, "--url", NOBODY)
    assert "warning: 1 images of its folders left out (below/b.png)" in done.stderr
    assert "warning: 1 of links to folders left out (link)" in done.stderr


def test_plan_says_machines_hours_and_cost():
    done = run("plan", 7200, "--rate", 1, "--deadline-h", 2, "--price-per-h", 3, "--start-s", 0,
               "--images-per-shard", 36, "--json")  # fmt: skip
    facts = json.loads(done.stdout)
    assert facts["machines"] == 2
    assert facts["cost"] == pytest.approx(6.03)
    table = run("plan", 7200, "--rate", 1, "--deadline-h", 2, "--images-per-shard", 3600)
    assert "machines" in table.stdout
    assert "shards for each machine" in table.stderr


def test_plan_that_no_machines_meet_says_why():
    done = run("plan", 1000, "--rate", 1, "--deadline-h", 0.01)
    assert done.returncode == 1
    assert "the deadline must be later" in one_line(done.stderr)
