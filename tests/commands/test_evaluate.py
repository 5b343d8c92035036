"""`sam-refine evaluate`, as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sam_refine_cli.app import make_app
from sam_refine_client import RefineClient, RefineOptions
from support.cases import DEMO_DATA, coarse_scores
from support.command_line import one_line, run
from support.fake_triton import FakeTriton

NAMES = ["background", "table", "saucer", "cup", "coffee", "spoon"]
FAST = RefineOptions(min_region_area=225)


@pytest.fixture
def folder(tmp_path):
    """Three images and their scores; truth that is 0 everywhere but for some void."""
    for name in ("images", "scores", "truth"):
        (tmp_path / name).mkdir()
    truth = np.zeros((100, 150), np.uint8)
    truth[:10] = 255
    for name in ("a.jpg", "b.png", "c.jpg"):
        with Image.open(DEMO_DATA / "photo.jpg") as photo:
            photo.resize((150, 100)).save(tmp_path / "images" / name)
        np.save(tmp_path / "scores" / name[0], coarse_scores())
        Image.fromarray(truth).save(tmp_path / f"truth/{name[0]}.png")
    return tmp_path


def arguments(folder, *more):
    return ["evaluate", folder / "images", "--logits", folder / "scores", "--truth",
            folder / "truth", "--ignore-label", 255, *more]  # fmt: skip


def write_refined_truth(folder, client):
    """Make what the server answers the truth, some void aside."""
    for image in (folder / "images").iterdir():
        result = client.refine(image, logits=coarse_scores(), options=FAST)
        truth = result.labels.astype(np.uint8)
        truth[:10] = 255
        Image.fromarray(truth).save(folder / f"truth/{image.stem}.png")


def check_where_refined_maps_are_the_truth(folder, where):
    """All that comes out of two sets, of which one is how the truth was made."""
    (folder / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    (folder / "other.json").write_text('{"options": {"iou_threshold": 1.0}}', encoding="utf-8")
    done = run(
        *arguments(folder, *where),
        "--option-set", "same:min_region_area=225", "--option-set", "nothing=other.json",
        "--class-names", "names.txt", "--json", "new/out.json", "--report", "report",
        cwd=folder,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((folder / "new/out.json").read_text(encoding="utf-8"))
    assert set(found) >= {"option_sets", "images", "options"}
    assert found["images"] == 3
    same, nothing = found["option_sets"]["same"], found["option_sets"]["nothing"]
    for name in ("miou", "accuracy", "border_accuracy", "boundary_iou"):
        assert same["refined"][name] == 100
        assert 0 < same["coarse"][name] < 100
        assert same["difference"][name] == pytest.approx(100 - same["coarse"][name], abs=1e-3)
        assert nothing["refined"][name] == nothing["coarse"][name] == same["coarse"][name]
        for kind in ("coarse", "refined", "difference"):
            low, high = same["intervals"][kind][name]
            assert low <= same[kind][name] <= high
    assert same["changed"]["made_right"] == 100
    assert same["changed"]["made_wrong"] == 0
    assert nothing["changed"] == {"fraction": 0, "made_right": None, "made_wrong": None}
    assert set(same["refined"]["iou_by_class"]) == set(NAMES)
    assert same["regions"]["kept"] > 0
    assert nothing["regions"]["kept"] == 0
    assert same["seconds_per_image"] > 0
    assert found["options"]["same"]["min_region_area"] == 225

    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["same"] in lines
    assert ["nothing"] in lines
    coarse = f"{same['coarse']['miou']:.2f}"
    assert ["mIoU", coarse, "100.00"] in [line[:3] for line in lines]
    assert ["cup", "100.00"] in [[line[0], line[2]] for line in lines if len(line) > 4]
    page = (folder / "report/index.html").read_text(encoding="utf-8")
    assert "Gained most" in page
    assert page.count("data:image/jpeg;base64,") == 9


def test_evaluate_in_this_process_says_what_the_maps_are(repository, folder):
    with RefineClient.local(repository) as client:
        write_refined_truth(folder, client)
    check_where_refined_maps_are_the_truth(folder, ["--local", repository])


@pytest.mark.triton
def test_evaluate_by_a_server_says_what_the_maps_are(server, folder):
    url = f"127.0.0.1:{server.grpc_port}"
    with RefineClient(url) as client:
        write_refined_truth(folder, client)
    check_where_refined_maps_are_the_truth(folder, ["--url", url])


def test_one_image_has_a_dash_for_the_interval_and_null_in_json(repository, folder):
    done = run(
        *arguments(folder, "--local", repository, "--limit", 1, "--json", folder / "out.json"),
        "--option-set", "fast:min_region_area=225",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert found["images"] == 1
    assert found["option_sets"]["fast"]["intervals"] is None
    (line,) = (line.split() for line in done.stdout.splitlines() if line.startswith("mIoU"))
    assert line[-1] == "-"


def test_labels_take_the_place_of_the_argmax_and_activation_is_done(repository, folder):
    (folder / "labels").mkdir()
    for name in "abc":
        np.save(folder / "labels" / name, np.full((100, 150), 3, np.int32))
        raw = np.log(coarse_scores().astype(np.float32) + 1e-6)
        np.save(folder / "scores" / name, raw)
    done = run(
        *arguments(folder, "--local", repository, "--limit", 1, "--json", folder / "out.json"),
        "--labels", folder / "labels", "--activation", "softmax",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert found["option_sets"]["default"]["coarse"]["accuracy"] == 0


def test_images_that_fail_are_named_and_the_others_count(repository, folder):
    (folder / "images/b.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((100, 149), np.uint8)).save(folder / "truth/c.png")
    with Image.open(folder / "images/a.jpg") as photo:
        photo.save(folder / "images/d.png")
        photo.save(folder / "images/e.png")
    for name in "de":
        shutil.copyfile(folder / "scores/a.npy", folder / f"scores/{name}.npy")
    Image.fromarray(np.full((100, 150), 6, np.uint8)).save(folder / "truth/d.png")
    done = run(
        *arguments(folder, "--local", repository, "--json", folder / "out.json"),
        "--option-set", "fast:min_region_area=225",
    )  # fmt: skip
    assert done.returncode == 1
    of_b, of_c, of_d, of_e, last = done.stderr.splitlines()
    assert f"{folder / 'images/b.png'}: " in of_b
    assert "b.png must be a picture such as JPEG or PNG" in of_b
    assert f"{folder / 'truth/c.png'} must be (100, 150) like its image, got (100, 149)" in of_c
    assert f"{folder / 'truth/d.png'} must have labels in [0, 6) or 255, which is void" in of_d
    assert f"{folder / 'truth'} must have e.npy or e.npz or e.png or " in of_e
    assert last == "sam-refine: 4 of 5 images failed"
    found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert found["images"] == 1
    assert len(found["failed"]) == 4


def test_label_maps_without_scores_are_evaluated(repository, folder):
    """The truth itself as a coarse map; class names say how many classes there are."""
    (folder / "names.json").write_text('{"0": "a", "5": "f"}', encoding="utf-8")
    command = ["evaluate", folder / "images", "--labels", folder / "truth", "--truth",
               folder / "truth", "--local", repository, "--ignore-label", 255,
               "--option-set", "fast:min_region_area=225", "--limit", 1]  # fmt: skip
    done = run(*command, "--class-names", folder / "names.json", "--json", folder / "out.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert found["option_sets"]["fast"]["coarse"]["accuracy"] == 100


@pytest.mark.parametrize("dataset", ["mmsegmentation", "huggingface"])
def test_data_set_by_name_has_its_truth(repository, folder, dataset):
    (folder / "images").rename(folder / "img_dir")
    (folder / "truth").rename(folder / "ann_dir")
    image = min((folder / "img_dir").iterdir()).name
    row = {"file_name": f"img_dir/{image}", "mask": f"ann_dir/{Path(image).stem}.png"}
    (folder / "metadata.jsonl").write_text(json.dumps(row), encoding="utf-8")
    command = ["evaluate", folder, "--dataset", dataset, "--logits", folder / "scores",
               "--local", repository, "--ignore-label", 255, "--limit", 1,
               "--option-set", "fast:min_region_area=225"]  # fmt: skip
    done = run(*command, "--json", folder / "out.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "out.json").read_text(encoding="utf-8"))["images"] == 1


@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_truth_that_is_not_given_is_wrong_usage(folder, command):
    where = ["--logits", folder / "scores", *(["--out", folder] if command == "tune" else [])]
    done = run(command, folder / "images", *where)
    assert (done.returncode, done.stdout) == (2, "")
    assert "give --truth (what the labels should be), or --dataset" in one_line(done.stderr)


@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_labels_without_scores_or_names_are_wrong_usage(folder, command):
    truth = folder / "truth"
    where = ["--labels", truth, "--truth", truth, *(["--out", folder] if command == "tune" else [])]
    done = run(command, folder / "images", *where)
    assert (done.returncode, done.stdout) == (2, "")
    assert "do not say how many classes there are: give --class-names" in one_line(done.stderr)


def test_all_images_that_fail_are_named_and_nothing_is_written(repository, folder):
    shutil.rmtree(folder / "truth")
    (folder / "truth").mkdir()
    done = run(*arguments(folder, "--local", repository, "--json", folder / "out.json"))
    assert done.returncode == 1
    *lines, last = done.stderr.splitlines()
    found = [line.partition("must have ")[2] for line in lines]
    assert [text.partition(" or ")[0] for text in found] == [f"{name}.npy" for name in "abc"]
    assert last == "sam-refine: 3 of 3 images failed"
    assert not (folder / "out.json").exists()


def test_truth_that_is_all_void_is_one_line(repository, folder):
    Image.fromarray(np.full((100, 150), 255, np.uint8)).save(folder / "truth/a.png")
    done = run(*arguments(folder, "--local", repository, "--limit", 1),
               "--option-set", "fast:min_region_area=225")  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    message = one_line(done.stderr)
    assert "truth must have pixels that are not void, which is 255" in message
    assert str(folder / "images/a.jpg") in message


def test_folder_whose_server_is_gone_ends_at_once(folder):
    done = run(*arguments(folder, "--url", "127.0.0.1:1", "--attempts", 1))
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert f"{folder / 'images/a.jpg'}: " in first
    assert "is the server running there" in first
    assert last == "sam-refine: ended, the others would fail, too; 0 of 3 images are done"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--option-set", "a"], "NAME:key=value,... or NAME=FILE.json, got 'a'"),
        (["--option-set", ":"], "a name that is not empty"),
        (["--option-set", "a:", "--option-set", "a:"], "different names, got 'a' twice"),
        (["--option-set", "a:iou=1"], "option set 'a': parameter 'iou' is not an option"),
        (["--limit", 0], "--limit"),
        (["--labels", DEMO_DATA / "photo.jpg"], "--labels must be one, too, got the file"),
        (["--local", ".", "--url", "a:1"], "--local calls no server"),
        (["--local", "--json", "a.json"], "--local needs REPOSITORY, got the option --json"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(folder, more, message):
    done = run(*arguments(folder, *more))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in one_line(done.stderr)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--option-set", "a=none.json"], "none.json"),
        (["--class-names", DEMO_DATA / "photo.jpg"], "must be a text file in UTF-8"),
        (["--class-names", "twice.txt"], "class_names must be different, got 'x' twice"),
        (["--json", "twice.txt/out.json"], "twice.txt"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_line_before_the_work(folder, more, message):
    (folder / "twice.txt").write_text("x\ny\nx\n", encoding="utf-8")
    with FakeTriton() as server:
        done = run(*arguments(folder, *more, "--url", server.address), cwd=folder)
        assert server.seen == []
    assert (done.returncode, done.stdout) == (1, "")
    assert message in one_line(done.stderr)


@pytest.mark.parametrize(
    ("missing", "extra"), [("tritonclient", "client"), ("scipy", "quality"), ("jinja2", "quality")]
)
def test_without_its_extra_says_what_to_install(monkeypatch, folder, missing, extra):
    found = {missing: None}
    monkeypatch.setattr("sam_refine_cli.console.find_spec", lambda name: found.get(name, name))
    done = CliRunner().invoke(make_app(), list(map(str, arguments(folder))))
    assert done.exit_code == 1
    assert done.stderr == f'sam-refine: {missing} missing: pip install "sam-refine[{extra}]"\n'
