"""`sam-refine refine` and `embed`, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sam_refine_cli.app import make_app
from sam_refine_cli.commands.refine import Format, without_results
from sam_refine_cli.options.inputs import Activation
from sam_refine_cli.options.refinement import REFINE_OPTIONS
from sam_refine_client import Activation as ClientActivation
from sam_refine_client import RefineClient, RefineOptions, SaveFormat
from sam_refine_client.inputs.images import find_images
from support.cases import DEMO_DATA, coarse_scores
from support.command_line import SAM_REFINE, one_line, run, shown_on, start, terminal
from support.fake_triton import PATIENCE_S, FakeTriton, hang, right, status

PHOTO, SCORES = DEMO_DATA / "photo.jpg", DEMO_DATA / "coarse_scores.npy"
FAST = ["--min-region-area", 225, "--mask-prompt", "none"]
FILES = {"labels.png", "palette.png", "regions.json", "result.npz", "before_after.png"}
LABELS_ONLY = ["--format", "labels"]


@pytest.fixture
def images(tmp_path):
    """Folders of three images and their scores."""
    for folder in ("images", "scores"):
        (tmp_path / folder).mkdir()
    for name in ("a.jpg", "b.JPEG", "c.png"):
        with Image.open(PHOTO) as photo:
            photo.resize((90, 60)).save(tmp_path / "images" / name)
        np.save(tmp_path / "scores" / name[0], coarse_scores())
    (tmp_path / "images" / "notes.txt").touch()
    return tmp_path


def folder_arguments(images):
    return ["refine", images / "images", "--logits", images / "scores", "--out", images / "out"]


def records(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def read_labels(path):
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.asarray(picture)


# --- Folders of folders ----------------------------------------------------------------------


def test_flat_labels_of_folders_within_a_folder_made_again_where_something_changed(tmp_path):
    for city in ("aachen", "bochum"):
        for folder in ("images", "scores"):
            (tmp_path / folder / city).mkdir(parents=True)
        with Image.open(PHOTO) as photo:
            photo.resize((90, 60)).save(tmp_path / f"images/{city}/{city}_1_leftImg8bit.png")
        (tmp_path / f"images/{city}/._{city}_1_leftImg8bit.png").touch()
        np.save(tmp_path / f"scores/{city}/{city}_1.npy", coarse_scores())
    with FakeTriton() as triton:
        arguments = [
            "refine", tmp_path / "images", "--recursive", "--cut-suffix", "_leftImg8bit",
            "--logits", f"{tmp_path}/scores/{{name}}.npy", "--layout", "flat",
            "--out", tmp_path / "out", "--json", "--url", triton.address, "--concurrency", 1,
        ]  # fmt: skip

        def statuses(*more):
            done = run(*arguments, *more)
            assert done.returncode == 0, done.stderr
            return [record["status"] for record in records(done)]

        assert statuses() == ["ok", "ok"]
        written = sorted(
            path.relative_to(tmp_path / "out").as_posix()
            for path in (tmp_path / "out").rglob("*")
            if path.is_file()
        )
        assert written == [
            "aachen/aachen_1.png", "bochum/bochum_1.png", "sam-refine.inputs.jsonl",
            "sam-refine.json",
        ]  # fmt: skip
        assert statuses("--skip-existing") == ["skipped", "skipped"]
        later_s = (tmp_path / "out/bochum/bochum_1.png").stat().st_mtime + 1
        scores = tmp_path / "scores/bochum/bochum_1.npy"
        os.utime(scores, (later_s, later_s))
        assert statuses("--skip-existing") == ["skipped", "skipped"]
        np.save(scores, coarse_scores()[::-1])
        os.utime(scores, (1000, 1000))
        assert statuses("--skip-existing") == ["skipped", "ok"]
        other = run(*arguments, "--skip-existing", "--iou-threshold", 0.5)
    assert other.returncode == 1
    assert "take another folder, or leave --skip-existing out" in one_line(other.stderr)


def test_pictures_of_a_folder_that_are_not_read_are_one_line(images):
    (images / "images" / "phone.HEIC").touch()
    with FakeTriton() as triton:
        done = run(*folder_arguments(images), "--url", triton.address)
    assert done.returncode == 0, done.stderr
    assert f"{images / 'images'}: warning: 1 of .heic left out (phone.HEIC): conv" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "lost"),
    [
        (["images", "--logits", "scores", "--layout", "flat", "--out", "images"], "images/c.png"),
        (["images", "--labels", "maps", "--layout", "flat", "--out", "maps"], "maps/a.png"),
        (["images/c.png", "--labels", "labels.png", "--out", "."], "labels.png"),
        (
            ["images", "--labels", "coco.json", "--out", "out", "--coco", "link.json"],
            "link.json",
        ),
    ],
)
def test_results_never_replace_what_they_are_made_of(images, monkeypatch, arguments, lost):
    (images / "maps").mkdir()
    for path in ("maps/a.png", "labels.png"):
        Image.new("L", (90, 60)).save(images / path)
    (images / "coco.json").write_text("{}")
    (images / "link.json").symlink_to(images / "coco.json")
    before = {path: path.read_bytes() for path in images.rglob("*") if path.is_file()}
    monkeypatch.chdir(images)
    done = CliRunner().invoke(make_app(), ["refine", *arguments, "--url", "127.0.0.1:1"])
    assert done.exit_code == 1
    expected = f"{lost} would be replaced by a result, but is an input: give another folder"
    assert expected in one_line(done.stderr)
    assert {path: path.read_bytes() for path in images.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("out", "found"), [("in/out", ["a"]), ("out", ["a", "out/b", "outer/c"])])
def test_results_within_the_folder_of_images_are_no_images(tmp_path, out, found):
    for name in ("a", "out/b", "outer/c") if out == "out" else ("a", "out/b"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).with_suffix(".png").touch()
    images = find_images(tmp_path / "in", recursive=True)
    left = without_results(images, tmp_path / "in", tmp_path / out)
    assert sorted(each.name for each in left) == found


def test_folder_of_one_image_says_what_became_of_it(images):
    for name in ("b.JPEG", "c.png"):
        (images / "images" / name).unlink()
    with FakeTriton() as triton:
        done = run(*folder_arguments(images), "--url", triton.address, *LABELS_ONLY)
    assert done.returncode == 0, done.stderr
    assert "left alone" in done.stdout
    assert "labels.png" in done.stdout


DATASETS = {
    "cityscapes": ("leftImg8bit/val/aachen/a_1_leftImg8bit.png", "val/aachen/a_1.npy",
                   "gtFine/val/aachen/a_1_gtFine_labelTrainIds.png"),
    "huggingface": ("train/0001.png", "train/0001.npy", "train/labels/0001.png"),
    "mmsegmentation": ("img_dir/train/0001.png", "train/0001.npy", "ann_dir/train/0001.png"),
}  # fmt: skip


@pytest.mark.parametrize("dataset", DATASETS)
def test_data_set_by_name_is_read_and_written_as_it_lies(tmp_path, dataset):
    image, scores, result = DATASETS[dataset]
    root = tmp_path / "data"
    for path in (root / image, tmp_path / "scores" / scores):
        path.parent.mkdir(parents=True)
    with Image.open(PHOTO) as photo:
        photo.resize((90, 60)).save(root / image)
    if dataset == "huggingface":
        (root / "train/metadata.csv").write_text("file_name\n0001.png\n")
    np.save(tmp_path / "scores" / scores, coarse_scores())
    arguments = [
        "refine", root, "--dataset", dataset, "--logits", tmp_path / "scores",
        "--out", tmp_path / "out", "--concurrency", 1,
    ]  # fmt: skip
    with FakeTriton() as triton:
        done = run(*arguments, "--url", triton.address)
        assert done.returncode == 0, done.stderr
        assert read_labels(tmp_path / "out" / result).shape == (60, 90)
        again = run(*arguments, "--url", triton.address, "--skip-existing", "--json")
    assert [record["status"] for record in records(again)] == ["skipped"]
    if dataset == "huggingface":
        listed = (tmp_path / "out/train/metadata.csv").read_text()
        assert listed == "file_name,label_file_name\n0001.png,labels/0001.png\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "must have the folder leftImg8bit"),
        (("--recursive",), "--dataset says what --recursive and --cut-suffix would say"),
        (("--dataset", "mmsegmentation", "--out", "."), "--out must be another folder than the da"),
        (("--dataset", "huggingface", "--out", "o"), "data set, whose list it would go into"),
    ],
)
def test_data_set_that_is_none_is_wrong_usage(tmp_path, more, said):
    (tmp_path / "img_dir").mkdir()
    arguments = ["refine", tmp_path, "--dataset", "cityscapes", "--logits", tmp_path]
    done = run(*arguments, "--out", tmp_path / "out", *more, cwd=tmp_path)
    assert done.returncode == 2
    assert said in one_line(done.stderr)


@pytest.mark.parametrize("layout", ["flat", "folders"])
def test_one_coco_file_of_a_folder_has_all_its_images_also_where_a_run_goes_on(images, layout):
    arguments = [
        *folder_arguments(images), "--layout", layout, "--coco", images / "all.json",
        "--concurrency", 1,
    ]  # fmt: skip

    def names():
        return [
            each["file_name"] for each in json.loads((images / "all.json").read_text())["images"]
        ]

    with FakeTriton(right, status(grpc.StatusCode.INTERNAL)) as server:
        assert run(*arguments, "--url", server.address).returncode == 1
        assert names() == ["a.jpg", "c.png"]
        done = run(*arguments, "--skip-existing", "--json", "--url", server.address)
    assert done.returncode == 0, done.stderr
    assert [record["status"] for record in records(done)] == ["skipped", "skipped", "ok"]
    assert names() == ["a.jpg", "b.JPEG", "c.png"]
    annotations = json.loads((images / "all.json").read_text())["annotations"]
    assert [(each["image_id"], each["category_id"]) for each in annotations] == [
        (1, 1),
        (2, 1),
        (3, 1),
    ]


# --- One image, a real server ----------------------------------------------------------------


@pytest.mark.triton
def test_refine_writes_what_the_client_gets(server, tmp_path):
    url = f"127.0.0.1:{server.grpc_port}"
    done = run("refine", PHOTO, "--logits", SCORES, "--out", tmp_path, "--url", url, *FAST)
    assert done.returncode == 0, done.stderr
    assert "pixels changed" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == FILES
    options = RefineOptions(min_region_area=225, mask_prompt="none")
    with RefineClient(url) as client:
        result = client.refine(PHOTO, logits=coarse_scores(), options=options)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.png"), result.labels)
    regions = json.loads((tmp_path / "regions.json").read_text())
    assert [region["kept"] for region in regions] == [region.kept for region in result.regions]
    with Image.open(tmp_path / "before_after.png") as picture:
        assert picture.width > 600


@pytest.mark.triton
def test_refine_of_raw_output_labels_and_an_embedding(server, tmp_path):
    url = ["--url", f"127.0.0.1:{server.grpc_port}"]
    labels = np.zeros((400, 600), np.uint8)
    labels[100:300, 200:400] = 3
    labels[:20] = 255
    picture = Image.fromarray(labels)
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "photo.png")
    np.save(tmp_path / "raw.npy", np.log(coarse_scores().astype(np.float32) + 1e-6))
    assert run("embed", PHOTO, "--out", tmp_path / "embeddings", *url).returncode == 0
    done = run(
        "refine", PHOTO, "--logits", tmp_path / "raw.npy", "--activation", "softmax",
        "--labels", tmp_path / "photo.png", "--ignore-label", 255,
        "--embedding", tmp_path / "embeddings", "--out", tmp_path / "out", "--json", *url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = records(done)
    assert record["timings_ms"]["embed"] < 1
    refined = read_labels(tmp_path / "out/labels.png")
    assert (refined[:20] == 255).all()
    assert set(np.unique(refined[20:])) == {0, 3}


@pytest.mark.triton
def test_refine_in_this_process_is_as_by_the_server(server, repository, tmp_path):
    arguments = ["refine", PHOTO, "--logits", SCORES, *LABELS_ONLY, *FAST, "--out"]
    for out, where in (
        ("server", ["--url", f"127.0.0.1:{server.grpc_port}"]),
        ("local", ["--local", repository]),
    ):
        done = run(*arguments, tmp_path / out, *where)
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "local").iterdir()} == {"labels.png"}
    np.testing.assert_array_equal(
        read_labels(tmp_path / "local/labels.png"), read_labels(tmp_path / "server/labels.png")
    )


def test_formats_and_activations_are_those_of_the_client():
    assert [each.value for each in Format] == [each.value for each in SaveFormat]
    assert [each.value for each in Activation] == [each.value for each in ClientActivation]


@pytest.mark.triton
def test_refine_writes_coco_with_class_names(server, tmp_path):
    names = ["background", "table", "saucer", "cup", "coffee", "spoon"]
    (tmp_path / "names.txt").write_text("\n".join(names), encoding="utf-8")
    done = run(
        "refine", PHOTO, "--logits", SCORES, *FAST, "--out", tmp_path / "out",
        "--format", "coco_rle", "--format", "regions", "--class-names", tmp_path / "names.txt",
        "--url", f"127.0.0.1:{server.grpc_port}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rle, regions = (tmp_path / "out" / name for name in ("coco_rle.json", "regions.json"))
    assert set((tmp_path / "out").iterdir()) == {rle, regions}
    dataset = json.loads(rle.read_text())
    assert [category["name"] for category in dataset["categories"]] == names
    assert dataset["images"][0]["file_name"] == "photo.jpg"
    assert {row["class_name"] for row in json.loads(regions.read_text())} <= set(names)


def test_class_names_too_few_or_no_text_are_one_line(images):
    """The first is found when a result is there, and named with its image."""
    (images / "few.txt").write_text("only one", encoding="utf-8")
    (images / "no.txt").write_bytes(b"\xff\xfe\x00")
    with FakeTriton(right) as server:
        for name, message in (
            ("few.txt", "class_names must have a name for each class"),
            ("no.txt", "no.txt must be a text file in UTF-8"),
        ):
            done = run(
                *folder_arguments(images), "--url", server.address,
                "--class-names", images / name,
            )  # fmt: skip
            assert done.returncode == 1
            assert message in done.stderr
            assert "Traceback" not in done.stderr


# --- Folders ---------------------------------------------------------------------------------


@pytest.mark.triton
def test_folder_goes_on_past_what_fails_and_then_again_with_the_rest(server, images):
    url = ["--url", f"127.0.0.1:{server.grpc_port}"]
    (images / "images/b.JPEG").write_bytes(b"no picture")
    (images / "scores/c.npy").unlink()
    done = run(*folder_arguments(images), *url, *FAST)
    assert done.returncode == 1
    assert (
        f"{images / 'images/b.JPEG'}: b.JPEG must be a picture such as JPEG or PNG" in done.stderr
    )
    assert f"{images / 'images/c.png'}: {images / 'scores'} must have c.npy" in done.stderr
    assert done.stderr.splitlines()[-1] == "sam-refine: 2 of 3 images failed"
    assert {path.name for path in (images / "out").iterdir()} == {
        "a",
        "sam-refine.inputs.jsonl",
        "sam-refine.json",
    }
    assert {path.name for path in (images / "out/a").iterdir()} == FILES

    np.save(images / "scores/c.npy", coarse_scores())
    (images / "images/b.JPEG").unlink()
    before = (images / "out/a/labels.png").stat().st_mtime_ns
    done = run(*folder_arguments(images), *url, *FAST, "--skip-existing", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert {record["image"][-5:]: record["status"] for record in records(done)} == {
        "a.jpg": "skipped",
        "c.png": "ok",
    }
    assert (images / "out/a/labels.png").stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [b"no zip at all", None])
def test_embedding_never_replaces_what_is_none(images, content):
    path = images / "scores/a.npz"
    if content is None:
        np.savez(path, scores=np.zeros(3))
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    done = run("embed", images / "images", "--out", images / "scores", "--url", "127.0.0.1:1")
    assert done.returncode == 1
    assert f"{path} would be replaced by an embedding, but is none" in one_line(done.stderr)
    assert path.read_bytes() == before


def test_folder_goes_on_past_a_file_that_no_decoder_can_bear(images):
    (images / "labels").mkdir()
    for stem in "ac":
        Image.new("L", (90, 60)).save(images / f"labels/{stem}.png")
    (images / "labels/b.json").write_text("[" * 100_000)
    arguments = [*arguments_of("refine", images), "--labels", images / "labels"]
    with FakeTriton() as server:
        done = run(*arguments, "--url", server.address)
    assert (done.returncode, statuses_of(done)) == (1, ["failed", "ok", "ok"])
    assert "b.json must be JSON: maximum recursion depth exceeded" in done.stderr


def test_name_that_is_no_text_is_printed_as_it_is(images):
    name = os.fsdecode(b"caf\xe9.png")
    (images / "images/c.png").rename(images / "images" / name)
    arguments = ["refine", images / "images" / name, "--logits", images / "scores/c.npy"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as in most languages
    out = images / os.fsdecode(b"\xe9")
    with FakeTriton() as server:
        done = run(*arguments, "--out", out, *LABELS_ONLY, "--url", server.address,
                   env=environment, errors="surrogateescape")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(out / "labels.png")


def test_what_is_doubtful_of_a_picture_is_one_line_and_pillow_says_nothing(images):
    Image.new("P", (90, 60)).save(images / "images/c.png", transparency=bytes([9]))
    arguments = ["refine", images / "images/c.png", "--logits", images / "scores/c.npy"]
    with FakeTriton() as server:
        done = run(*arguments, "--out", images / "out", "--url", server.address)
    (line,) = done.stderr.splitlines()
    assert "c.png has transparent pixels" in line


@pytest.mark.triton
def test_embeddings_of_a_folder_refine_it(server, images):
    url = ["--url", f"127.0.0.1:{server.grpc_port}"]
    embed = ["embed", images / "images", "--out", images / "embeddings", *url, "--json"]
    done = run(*embed)
    assert done.returncode == 0, done.stderr
    assert [record["size_hw"] for record in records(done)] == [[60, 90]] * 3
    assert {path.name for path in (images / "embeddings").iterdir()} == {
        "a.npz", "b.npz", "c.npz", "sam-refine.json", "sam-refine.inputs.jsonl"
    }  # fmt: skip
    (images / "images/b.JPEG").write_bytes((images / "images/a.jpg").read_bytes() + b"\0")
    again = {Path(each["image"]).name: each["status"]
             for each in records(run(*embed, "--skip-existing"))}  # fmt: skip
    assert again == {"a.jpg": "skipped", "b.JPEG": "ok", "c.png": "skipped"}
    with_embeddings = [*folder_arguments(images), *url, "--embedding", images / "embeddings"]
    done = run(*with_embeddings, *FAST, "--json")
    assert done.returncode == 0, done.stderr
    assert max(record["timings_ms"]["embed"] for record in records(done)) < 1


def test_images_of_a_folder_are_embedded_several_at_a_time(images):
    def together(server, request, context):
        server.wait_for(3)
        return right(server, request, context)

    embed = ["embed", images / "images", "--out", images / "out", "--json"]
    with FakeTriton(*[together] * 3) as server:
        done = run(*embed, "--concurrency", 3, "--url", server.address)
    assert done.returncode == 0, done.stderr
    assert [record["status"] for record in records(done)] == ["ok"] * 3
    assert {path.name for path in (images / "out").glob("*.npz")} == {"a.npz", "b.npz", "c.npz"}


def test_embed_goes_on_after_an_error_of_the_server_and_then_with_the_rest(images):
    embed = ["embed", images / "images", "--out", images / "out", "--json", "--concurrency", 1]
    with FakeTriton(right, status(grpc.StatusCode.INTERNAL)) as server:
        done = run(*embed, "--url", server.address)
        assert done.returncode == 1
        assert [record["status"] for record in records(done)] == ["ok", "failed", "ok"]
        again = run(*embed, "--skip-existing", "--url", server.address)
    assert [record["status"] for record in records(again)].count("skipped") == 2
    assert (images / "out/b.npz").exists()
    manifest = images / "out/sam-refine.json"
    manifest.write_text(manifest.read_text().replace('"sam-refine": "', '"sam-refine": "0.'))
    refused = run(*embed, "--skip-existing", "--url", "127.0.0.1:1")
    assert refused.returncode == 1
    assert "were made with sam-refine '0." in refused.stderr


def arguments_of(command, images):
    both = {"refine": folder_arguments(images),
            "embed": ["embed", images / "images", "--out", images / "out"]}  # fmt: skip
    return [*both[command], "--concurrency", 1, "--json"]


def statuses_of(done):
    return [record["status"] for record in records(done)]


@pytest.mark.parametrize("command", ["refine", "embed"])
def test_folder_does_not_go_on_with_other_networks_at_the_server(images, command):
    arguments = [*arguments_of(command, images), "--skip-existing"]
    with FakeTriton(right, status(grpc.StatusCode.INTERNAL)) as server:
        server.say_networks("ab12")
        assert run(*arguments, "--url", server.address).returncode == 1
        manifest = json.loads((images / "out/sam-refine.json").read_text())
        assert (manifest["networks_sha256"], manifest["model_card"]) == ("ab12", None)
        server.say_networks("cd34")
        other = run(*arguments, "--url", server.address)
        assert (other.returncode, other.stdout) == (1, "")
        assert "were made with networks_sha256 'ab12', now 'cd34': take ano" in (
            one_line(other.stderr)
        )
        server.say_networks("ab12")
        done = run(*arguments, "--url", server.address)
    assert statuses_of(done) == ["skipped", "skipped", "ok"]
    done = run(*arguments, "--url", "127.0.0.1:1", "--attempts", 1)
    assert (done.returncode, statuses_of(done)) == (0, ["skipped"] * 3)


def test_folder_whose_server_is_given_other_networks_meanwhile_keeps_none_of_their_results(images):
    def given_others(server, request, context):
        server.say_networks("cd34")
        return right(server, request, context)

    arguments = arguments_of("refine", images)
    with FakeTriton(right, *[status(grpc.StatusCode.INTERNAL)] * 2, given_others) as server:
        server.say_networks("ab12")
        assert run(*arguments, "--url", server.address).returncode == 1
        before = sorted(path for path in (images / "out").rglob("*"))
        other = run(*arguments, "--skip-existing", "--url", server.address)
        assert sorted(path for path in (images / "out").rglob("*")) == before
    assert statuses_of(other) == ["skipped", "failed"]
    assert "networks_sha256 'ab12', now 'cd34'" in other.stderr


def test_results_of_other_networks_in_one_folder_are_made_again(images):
    arguments = arguments_of("refine", images)
    with FakeTriton(*[right] * 4, *[status(grpc.StatusCode.INTERNAL)] * 2) as server:
        server.say_networks("ab12")
        assert run(*arguments, "--url", server.address).returncode == 0
        server.say_networks("cd34")
        assert run(*arguments, "--url", server.address).returncode == 1
        done = run(*arguments, "--skip-existing", "--url", server.address)
    assert statuses_of(done) == ["skipped", "ok", "ok"]


def test_folder_goes_on_at_a_server_that_does_not_say_its_networks(images):
    arguments = [*arguments_of("embed", images), "--skip-existing"]
    with FakeTriton() as server:
        server.say_networks("ab12")
        server.statuses["ModelConfig"] = grpc.StatusCode.PERMISSION_DENIED
        assert run(*arguments, "--url", f"{server.address},127.0.0.1:1").returncode == 0
        assert "networks_sha256" not in json.loads((images / "out/sam-refine.json").read_text())
        (images / "images/a.jpg").write_bytes((images / "images/a.jpg").read_bytes() + b"\0")
        server.statuses["ModelConfig"] = grpc.StatusCode.UNIMPLEMENTED
        done = run(*arguments, "--url", server.address)
        assert sorted(statuses_of(done)) == ["ok", "skipped", "skipped"]
        server.statuses.clear()
        refused = run(*arguments, "--url", server.address)
    assert refused.returncode == 1
    assert "were made with networks_sha256 None, now 'ab12'" in one_line(refused.stderr)


def test_folder_of_servers_with_different_networks_ends_and_names_them(images):
    with FakeTriton() as one, FakeTriton() as other:
        one.say_networks("ab12")
        urls = ["--url", f"{one.address},{other.address}"]
        done = run(*arguments_of("refine", images), *urls)
        assert done.returncode == 1
        assert f"{one.address} has ab12, {other.address} has None" in done.stderr
        assert not (images / "out").exists()
        other.say_networks("ab12")
        urls = ["--url", f"{one.address},{other.address},127.0.0.1:1"]
        assert run(*arguments_of("refine", images), *urls).returncode == 0


def test_folder_whose_server_is_gone_ends_at_once(images):
    done = run(*folder_arguments(images), "--url", "127.0.0.1:1", "--attempts", 1)
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert "is the server running there" in first
    assert last.startswith("sam-refine: ended, the others would fail, too; 0 of 3 images are done")
    assert not (images / "out").exists()


def test_folder_goes_on_after_an_error_of_the_server(images):
    with FakeTriton(status(grpc.StatusCode.INTERNAL)) as server:
        arguments = [*folder_arguments(images), "--concurrency", 1, *LABELS_ONLY, "--json"]
        done = run(*arguments, "--url", server.address)
        assert [record["status"] for record in records(done)] == ["failed", "ok", "ok"]
        assert records(done)[0]["error"] == "ServerError"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "a.png").touch(), "one image of a name, got a.jpg and a.png"),
        (
            lambda folder: [path.unlink() for path in folder.iterdir()],
            "has no image: *.jpg, *.jpeg,",
        ),
    ],
)
def test_folder_that_makes_no_sense_is_one_line(images, change, message):
    change(images / "images")
    done = run(*folder_arguments(images))
    assert done.returncode == 1
    assert message in one_line(done.stderr)


def test_options_and_headers_reach_the_server(images):
    options = {
        "downsample_ratio": 4,
        "confidence_threshold": 0.25,
        "iou_threshold": 0.5,
        "mask_prompt": "sam",
        "mask_prompt_scale": 0.5,
        "min_region_area": 9,
        "failed_regions": "compete",
        "max_regions": 7,
        "ignore_label": 2,
    }
    given = [text for name, value in options.items()
             for text in (f"--{name.replace('_', '-')}", value)]  # fmt: skip
    with FakeTriton() as server:
        done = run(
            "refine", images / "images/c.png", "--logits", images / "scores",
            "--out", images / "out", "--url", server.address, *given, "--multimask-output",
            "--image-id", "still", "--header", "Authorization=Bearer a=b", "--timeout-s", 20,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen = server.wait_for()
    assert seen.headers["authorization"] == "Bearer a=b"
    assert 0 < seen.time_remaining_s <= 20
    sent = {name: getattr(value, value.WhichOneof("parameter_choice"))
            for name, value in seen.request.parameters.items()}  # fmt: skip
    assert {name: sent[name] for name in options} == options
    assert (sent["multimask_output"], sent["image_id"]) == (True, "still")


def test_every_option_of_a_request_is_one_of_the_command_with_its_help():
    preset, *options = REFINE_OPTIONS.options
    assert (preset.name, preset.default) == ("preset", None)
    assert [(option.name, option.default) for option in options] == [
        (row.name, row.default) for row in RefineOptions.rows.values()
    ]
    for option, row in zip(options, RefineOptions.rows.values(), strict=True):
        assert option.annotation.__metadata__[0].help == row.full_help


# --- Wrong usage, errors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refine"], "IMAGE"),
        (["refine", PHOTO, "--out", "x"], "--logits"),
        (["refine", PHOTO, "--logits", SCORES], "--out"),
        (["refine", "missing.jpg", "--logits", SCORES, "--out", "x"], "missing.jpg"),
        (["refine", PHOTO, "--logits", SCORES, "--out", PHOTO], "--out"),
        (["refine", PHOTO, "--logits", SCORES, "--out", "x", "--mask-prompt", "best"], "best"),
        (["refine", PHOTO, "--logits", SCORES, "--out", "x", "--iou-threshold", 7], "--iou-thr"),
        (["refine", PHOTO, "--logits", SCORES, "--out", "x", "--iou-threshold", "nan"], "iou"),
        (["refine", PHOTO, "--logits", SCORES, "--out", "x", "--ignore-label", 65536], "65535"),
        (["refine", PHOTO, "--logits", SCORES, "--out", "x", "--concurrency", 0], "--concurrency"),
        (["refine", DEMO_DATA, "--logits", SCORES, "--out", "x"], "--logits must be one, too"),
        (
            ["refine", DEMO_DATA, "--logits", DEMO_DATA, "--out", "x", "--image-id", "a"],
            "one image",
        ),
        (["embed", PHOTO], "--out"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in one_line(done.stderr)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--logits", PHOTO], "must be a .npy file of numbers"),
        (["--logits", SCORES, "--labels", PHOTO], "must be a PNG, whose values are exact"),
        (["--logits", SCORES, "--labels", DEMO_DATA], "must have photo.npy or photo.npz or photo."),
        (["--labels", SCORES, "--palette", "coco"], "palette must be one of ade20k, camvid"),
        (
            ["--logits", SCORES, "--embedding", SCORES],
            "must be a file that Embedding.save wrote",
        ),
        (["--logits", SCORES, "--attempts", "1"], "is the server running there"),
    ],
)
def test_refine_error_is_one_line_and_exit_code_1(tmp_path, arguments, message):
    done = run("refine", PHOTO, "--out", tmp_path, "--url", "127.0.0.1:1", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in one_line(done.stderr)
    assert not list(tmp_path.iterdir())


def test_labels_that_are_a_colour_picture_are_refused(tmp_path):
    with Image.open(PHOTO) as photo:
        photo.save(tmp_path / "labels.png")
    done = run(
        "refine", PHOTO, "--logits", SCORES, "--labels", tmp_path / "labels.png", "--out", "x",
        cwd=tmp_path,
    )  # fmt: skip
    assert "in colours need palette=, a file of colours and names" in one_line(done.stderr)


def test_labels_alone_are_refined_and_what_was_doubtful_is_said_once(images):
    """In the colours of Cityscapes, with void; and the same as a mask for each class."""
    (images / "maps").mkdir()
    colours = np.zeros((60, 90, 3), np.uint8)
    colours[:30], colours[30:50] = (128, 64, 128), (70, 70, 70)
    for name in "abc":
        Image.fromarray(colours).save(images / f"maps/{name}.png")
    arguments = ["refine", images / "images", "--labels", images / "maps", "--format", "npz"]
    with FakeTriton() as server:
        url = ["--url", server.address]
        given = ["--palette", "cityscapes", "--out", images / "given"]
        named = run(*arguments, *url, *given, "--json")
        guessed = run(*arguments, *url, "--out", images / "guessed", "--json")
    assert (named.returncode, named.stderr) == (0, "")
    assert [record["warnings"] for record in records(named)] == [[]] * 3
    with np.load(images / "given/a/result.npz") as result:
        expected = np.select([colours[..., 0] == 128, colours[..., 0] == 70], [0, 2], 255)
        np.testing.assert_array_equal(result["coarse_labels"], expected)
    assert guessed.returncode == 0, guessed.stderr
    warned = [record["warnings"] for record in records(guessed)]
    assert all("taken as those of cityscapes" in warnings[0] for warnings in warned)
    assert [len(warnings) for warnings in warned] == [2, 2, 2]  # and 255 is void
    lines = guessed.stderr.splitlines()
    assert len(lines) == 2
    assert all(f"sam-refine: {images / 'images/a.jpg'}: warning: " in line for line in lines)


def test_folder_for_each_class_and_a_file_of_coco_are_label_maps(images):
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 30:60] = 255
    (images / "maps/cup").mkdir(parents=True)
    for name in "abc":
        Image.fromarray(mask).save(images / f"maps/cup/{name}.png")
    square = [[30, 20, 60, 20, 60, 40, 30, 40]]
    names = ("a.jpg", "b.JPEG", "c.png")
    content = {
        "images": [{"id": name, "file_name": name, "height": 60, "width": 90} for name in names],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"image_id": name, "category_id": 1, "segmentation": square} for name in names
        ],
    }
    (images / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    arguments = ["refine", images / "images", "--format", "npz"]
    with FakeTriton() as server:
        for place in ("maps", "coco.json"):
            out = images / f"out-{place}"
            done = run(
                *arguments, "--labels", images / place, "--out", out, "--url", server.address
            )
            assert done.returncode == 0, done.stderr
            with np.load(out / "b/result.npz") as result:
                np.testing.assert_array_equal(result["coarse_labels"], mask > 0)


@pytest.mark.parametrize("how", ["environment", "by hand"])
def test_address_and_header_are_those_of_the_environment(images, how):
    arguments = ["refine", images / "images/a.jpg", "--logits", images / "scores/a.npy",
                 "--out", images / "out", *LABELS_ONLY]  # fmt: skip
    with FakeTriton() as server:
        given = [] if how == "environment" else ["--url", server.address]
        url = server.address if how == "environment" else "127.0.0.1:1"
        environment = os.environ | {
            "SAM_REFINE_URL": url,
            "SAM_REFINE_HEADER": "authorization=Bearer abc",
            "SAM_REFINE_TIMEOUT_S": "55",
        }
        done = run(*arguments, *given, env=environment)
        assert done.returncode == 0, done.stderr
        (seen,) = server.calls()
    assert seen.headers.get("authorization") == ("Bearer abc" if how == "environment" else None)
    assert 0 < seen.time_remaining_s <= 55


def test_results_that_cannot_be_written_are_an_error(images):
    (images / "out").mkdir()
    (images / "out/a").touch()
    with FakeTriton() as server:
        done = run(*folder_arguments(images), "--url", server.address, "--json", *LABELS_ONLY)
    assert [record["status"] for record in records(done)] == ["failed", "ok", "ok"]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("command", "extra"), [("refine", "client"), ("embed", "client"), ("health", "client")]
)
def test_without_its_extra_says_what_to_install(monkeypatch, tmp_path, command, extra):
    found = {"tritonclient": None}
    monkeypatch.setattr("sam_refine_cli.console.find_spec", lambda name: found.get(name, name))
    arguments = {
        "refine": [PHOTO, "--logits", SCORES, "--out", tmp_path],
        "embed": [PHOTO, "--out", tmp_path],
        "health": [],
    }[command]
    done = CliRunner().invoke(make_app(), [command, *map(str, arguments)])
    assert done.exit_code == 1
    assert done.stderr == f'sam-refine: tritonclient missing: pip install "sam-refine[{extra}]"\n'


# --- Interrupted, killed ---------------------------------------------------------------------


@pytest.mark.parametrize("command", ["refine", "embed"])
def test_interrupted_folder_ends_at_once_and_says_how_far_it_came(images, command):
    arguments = {
        "refine": [*folder_arguments(images), *LABELS_ONLY],
        "embed": ["embed", images / "images", "--out", images / "out"],
    }[command]
    with FakeTriton(right, hang) as server:
        process = start(*arguments, "--concurrency", 1, "--url", server.address, "--json")
        assert json.loads(process.stdout.readline())["status"] == "ok"
        seen = server.wait_for(2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
        assert seen.ended.wait(PATIENCE_S)
    assert (process.returncode, stdout) == (130, "")
    assert one_line(stderr).startswith("interrupted; 1 of 3 images are done, --skip-existing")


def test_killed_folder_has_whole_results_only_and_goes_on(images):
    with FakeTriton(right, hang) as server:
        arguments = [*folder_arguments(images), "--url", server.address]
        process = start(*arguments, "--concurrency", 1, "--json")
        assert json.loads(process.stdout.readline())["status"] == "ok"
        server.wait_for(2)
        process.kill()
        process.communicate()
        done = [path.parent.name for path in (images / "out").glob("*/labels.png")]
        assert done == ["a"]
        (images / "out/b").mkdir()
        (images / "out/b/palette.png").touch()  # killed as it wrote
        again = run(*arguments, "--skip-existing", "--json")
        assert [record["status"] for record in records(again)] == ["skipped", "ok", "ok"]
    for name in "abc":
        assert {path.name for path in (images / "out" / name).iterdir()} == FILES


def test_folder_shows_how_far_it_is_on_a_terminal(images):
    """And JSON on stdout is whole, wherever that goes."""
    with FakeTriton(*[status(grpc.StatusCode.INTERNAL)]) as server, terminal() as (near, far):
        process = subprocess.Popen(
            [*SAM_REFINE, *folder_arguments(images), "--url", server.address, "--json"],
            stdout=subprocess.PIPE,
            stderr=far,
            env=os.environ | {"COLUMNS": "80", "TERM": "xterm"},
        )
        os.close(far)
        shown = shown_on(near)
        lines = process.communicate()[0].splitlines()
    assert [json.loads(line)["status"] for line in lines].count("ok") == 2
    assert "3/3" in shown
    assert "1 failed" in shown
    assert "said the server" in shown
