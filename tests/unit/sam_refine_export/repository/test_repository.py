import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from sam_refine.contract import NETWORKS_SHA256
from sam_refine_export import ExportError
from sam_refine_export.repository import repository
from sam_refine_export.repository.manifest import manifest
from sam_refine_export.repository.model_card import CARD_NAME
from sam_refine_export.repository.template import template


def write_repository(output, text, *, replace=False):
    """A repository as an export leaves it, with `text` for its graphs."""
    with repository.new_repository(output, replace=replace) as path:
        for graph in (repository.ENCODER_ONNX, repository.DECODER_ONNX):
            (path / graph).write_text(text, encoding="utf-8")
        card = {"recipe_sha256": "0" * 64, "files": manifest(path, leave_out=CARD_NAME)}
        (path / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")


def content(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_new_repository_has_the_template_and_the_graphs_and_nothing_else(tmp_path):
    write_repository(tmp_path / "deep" / "models", "graph")
    found = sorted(path.as_posix() for path in content(tmp_path / "deep" / "models"))
    assert found == [
        "model_card.json",
        "sam_embed/1/README.md",
        "sam_embed/config.pbtxt",
        "sam_image_encoder/1/model.onnx",
        "sam_image_encoder/config.pbtxt",
        "sam_mask_decoder/1/model.onnx",
        "sam_mask_decoder/config.pbtxt",
        "sam_preprocess/1/model.py",
        "sam_preprocess/config.pbtxt",
        "sam_refine/1/model.py",
        "sam_refine/config.pbtxt",
    ]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["models"]


def test_finished_repository_says_which_graphs_it_has(tmp_path):
    """Not what its configs say of them, and a judge and files of parameters too."""
    said = []
    with repository.new_repository(tmp_path / "models") as path:
        config = path / repository.REFINE_CONFIG
        before = text_format.Parse(config.read_text(encoding="utf-8"), ModelConfig())
        for name, text in (
            (repository.ENCODER_ONNX, "encoder"),
            (repository.DECODER_ONNX, "decoder"),
            (repository.ENCODER_ONNX, "another"),
            (f"{repository.ENCODER_ONNX}.data", "parameters"),
            ("sam_mask_judge/1/model.onnx", "judge"),
            ("sam_image_encoder/config.pbtxt", "max_batch_size: 1"),
        ):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text, encoding="utf-8")
            assert repository.finished(path) == manifest(path, leave_out=CARD_NAME)
            after = text_format.Parse(config.read_text(encoding="utf-8"), ModelConfig())
            said.append(after.parameters[NETWORKS_SHA256].string_value)
    assert len(set(said)) == 5
    assert said[-1] == said[-2]
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in said)
    del before.parameters[NETWORKS_SHA256], after.parameters[NETWORKS_SHA256]
    assert after == before


def test_finished_repository_of_an_earlier_export_says_nothing(tmp_path):
    config = tmp_path / repository.REFINE_CONFIG
    config.parent.mkdir()
    config.write_text("max_batch_size: 0\n", encoding="utf-8")
    assert repository.finished(tmp_path) == manifest(tmp_path, leave_out=CARD_NAME)
    assert config.read_text(encoding="utf-8") == "max_batch_size: 0\n"


def test_new_repository_is_readable_by_others_as_the_umask_says(tmp_path):
    write_repository(tmp_path / "models", "graph")
    (tmp_path / "plain").mkdir()
    expected = (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "models").stat().st_mode == expected


def test_new_repository_an_earlier_export_is_replaced(tmp_path):
    write_repository(tmp_path / "models", "old")
    (tmp_path / "models/sam_refine/1/__pycache__").mkdir()
    (tmp_path / "models/sam_refine/1/__pycache__/model.cpython-311.pyc").touch()
    write_repository(tmp_path / "models", "new")
    assert (tmp_path / "models" / repository.ENCODER_ONNX).read_text(encoding="utf-8") == "new"
    assert not (tmp_path / "models/sam_refine/1/__pycache__").exists()


def edit_a_config(models):
    with (models / "sam_refine/config.pbtxt").open("a", encoding="utf-8") as config:
        config.write("# ours\n")


def add_a_model(models):
    (models / "segmenter/1").mkdir(parents=True)
    (models / "segmenter/1/model.onnx").touch()


@pytest.mark.parametrize(
    ("change", "name"),
    [(edit_a_config, "sam_refine/config.pbtxt"), (add_a_model, "segmenter/1/model.onnx")],
)
def test_new_repository_changed_export_is_replaced_only_if_that_is_said(tmp_path, change, name):
    write_repository(tmp_path / "models", "old")
    change(tmp_path / "models")
    before = content(tmp_path)
    with (
        pytest.raises(ExportError, match=rf"has been changed since .* \({name}\); .* --replace"),
        repository.new_repository(tmp_path / "models"),
    ):
        pytest.fail("must refuse before the work begins")
    assert content(tmp_path) == before
    write_repository(tmp_path / "models", "new", replace=True)
    assert (tmp_path / "models" / repository.ENCODER_ONNX).read_text(encoding="utf-8") == "new"
    assert not (tmp_path / "models/segmenter").exists()


def test_new_repository_changed_during_the_export_is_kept(tmp_path):
    write_repository(tmp_path / "models", "old")
    with (
        pytest.raises(ExportError, match="has been changed since it was exported"),
        repository.new_repository(tmp_path / "models"),
    ):
        add_a_model(tmp_path / "models")
    assert (tmp_path / "models/segmenter/1/model.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_new_repository_many_changes_are_counted(tmp_path):
    write_repository(tmp_path / "models", "old")
    for number in range(8):
        (tmp_path / "models" / f"notes{number}").touch()
    with (
        pytest.raises(ExportError, match=r"\(notes0, notes1, notes2, notes3, notes4 and 3 more\)"),
        repository.new_repository(tmp_path / "models"),
    ):
        pytest.fail("must refuse before the work begins")


def test_new_repository_an_empty_directory_is_taken(tmp_path):
    (tmp_path / "models").mkdir()
    write_repository(tmp_path / "models", "graph")
    assert (tmp_path / "models" / CARD_NAME).is_file()


@pytest.mark.parametrize("error", [ExportError("wrong"), KeyboardInterrupt()])
def test_new_repository_block_raises_leaves_everything_as_it_was(tmp_path, error):
    write_repository(tmp_path / "models", "old")
    before = content(tmp_path)

    def export_half():
        with repository.new_repository(tmp_path / "models") as path:
            (path / repository.ENCODER_ONNX).write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(type(error)):
        export_half()
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_new_repository_renaming_fails_restores_the_old_one(tmp_path):
    write_repository(tmp_path / "models", "old")
    before = content(tmp_path)
    with (
        pytest.raises(OSError, match="No such file"),
        repository.new_repository(tmp_path / "models") as path,
    ):
        path.rename(path.with_name("elsewhere"))
    assert content(tmp_path) == before


def test_new_repository_interrupt_between_the_renames_restores_the_old_one(tmp_path, monkeypatch):
    write_repository(tmp_path / "models", "old")
    before = content(tmp_path)
    rename = Path.rename

    def interrupted(path, target):
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_repository(tmp_path / "models", "new")
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "card", [None, "{}", '{"files": {}}', '{"recipe_sha256": "", "files": []}']
)
def test_new_repository_foreign_directory_is_refused_and_untouched(tmp_path, card):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "thesis.txt").write_text("years of work", encoding="utf-8")
    if card is not None:  # another tool's file of that name
        (tmp_path / "models" / CARD_NAME).write_text(card, encoding="utf-8")
    before = content(tmp_path)
    for replace in (False, True):
        with (
            pytest.raises(ExportError, match=r"is not empty and no export wrote it \(it has no m"),
            repository.new_repository(tmp_path / "models", replace=replace),
        ):
            pytest.fail("must refuse before the work begins")
    assert content(tmp_path) == before


def test_new_repository_a_file_is_refused(tmp_path):
    (tmp_path / "models").touch()
    with (
        pytest.raises(ExportError, match="exists and is not a directory"),
        repository.new_repository(tmp_path / "models"),
    ):
        pytest.fail("must refuse before the work begins")


def test_new_repository_place_of_the_template_is_refused():
    root = template()
    for place in (root, root / "mine", root.parent):
        with (
            pytest.raises(ExportError, match="is where this project keeps its template"),
            repository.new_repository(place),
        ):
            pytest.fail("must refuse before the work begins")


def test_new_repository_mount_point_is_refused_before_the_work(tmp_path):
    (tmp_path / "models").mkdir()
    mount = ["mount", "-t", "tmpfs", "none", tmp_path / "models"]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting needs more rights")
    try:
        with (
            pytest.raises(ExportError, match="is a mount point, which cannot be replaced as a wh"),
            repository.new_repository(tmp_path / "models"),
        ):
            pytest.fail("must refuse before the work begins")
    finally:
        subprocess.run(["umount", tmp_path / "models"], check=True)


def test_new_repository_two_at_once_second_is_refused(tmp_path):
    with repository.new_repository(tmp_path / "models") as path:
        with (
            pytest.raises(ExportError, match="another process is exporting to "),
            repository.new_repository(tmp_path / "models"),
        ):
            pytest.fail("must refuse before the work begins")
        (path / CARD_NAME).touch()
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_new_repository_after_a_killed_export_clears_what_that_left(tmp_path):
    killed_while("time.sleep(60)", tmp_path / "models")
    assert [path.name for path in tmp_path.iterdir()] == [".models.export"]
    write_repository(tmp_path / "models", "graph")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_new_repository_after_a_kill_between_the_renames_has_the_old_one_again(tmp_path):
    write_repository(tmp_path / "models", "old")
    before = content(tmp_path)
    killed_while("(p / '../../models').resolve().rename(p.parent / 'old')", tmp_path / "models")
    assert not (tmp_path / "models").exists()
    with (
        pytest.raises(KeyboardInterrupt),
        repository.new_repository(tmp_path / "models"),
    ):
        raise KeyboardInterrupt
    assert content(tmp_path) == before


def killed_while(action, output):
    """Kill a process that is in the middle of an export after it has begun with `action`."""
    code = (
        "import pathlib, os, sys, threading, time\n"
        "from sam_refine_export.repository import repository\n"
        f"with repository.new_repository(pathlib.Path({str(output)!r})) as p:\n"
        "    threading.Timer(0.2, os.kill, (os.getpid(), 9)).start()\n"
        f"    {action}\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_new_repository_old_one_that_cannot_be_deleted_is_a_warning(tmp_path, monkeypatch, caplog):
    write_repository(tmp_path / "models", "old")
    rmtree = shutil.rmtree

    def refuse(directory):
        if (directory / "old").exists():
            raise PermissionError(13, "Permission denied")
        rmtree(directory)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    write_repository(tmp_path / "models", "new")
    assert (tmp_path / "models" / repository.ENCODER_ONNX).read_text(encoding="utf-8") == "new"
    assert ".models.export cannot be deleted: [Errno 13] Permission denied" in caplog.text
