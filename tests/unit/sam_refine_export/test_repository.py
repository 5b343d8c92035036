from pathlib import Path

import pytest

from sam_refine_export import ExportError, repository
from sam_refine_export.model_card import CARD_NAME


def write_repository(output, text):
    """A repository as an export leaves it, with `text` for its graphs."""
    with repository.new_repository(output) as path:
        for graph in (repository.ENCODER_ONNX, repository.DECODER_ONNX):
            (path / graph).write_text(text, encoding="utf-8")
        (path / CARD_NAME).write_text("{}", encoding="utf-8")


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


def test_new_repository_is_readable_by_others_as_the_umask_says(tmp_path):
    write_repository(tmp_path / "models", "graph")
    (tmp_path / "plain").mkdir()
    expected = (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "models").stat().st_mode == expected


def test_new_repository_an_earlier_export_is_replaced_whole(tmp_path):
    write_repository(tmp_path / "models", "old")
    (tmp_path / "models" / "left over").touch()
    write_repository(tmp_path / "models", "new")
    assert (tmp_path / "models" / repository.ENCODER_ONNX).read_text(encoding="utf-8") == "new"
    assert not (tmp_path / "models" / "left over").exists()


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


def test_new_repository_foreign_directory_is_refused_and_untouched(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with (
        pytest.raises(ExportError, match=r"is not empty and no export wrote it \(it has no model_"),
        repository.new_repository(tmp_path / "models"),
    ):
        pytest.fail("must refuse before the work begins")
    assert list(content(tmp_path).values()) == [b"years of work"]


def test_new_repository_a_file_is_refused(tmp_path):
    (tmp_path / "models").touch()
    with (
        pytest.raises(ExportError, match="exists and is no directory"),
        repository.new_repository(tmp_path / "models"),
    ):
        pytest.fail("must refuse before the work begins")


def test_template_files_leave_out_placeholders_byte_code_and_graphs(tmp_path, monkeypatch):
    for name in ("a/1/.gitkeep", "a/1/__pycache__/model.pyc", "a/1/model.onnx", "a/config.pbtxt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(repository, "template", lambda: tmp_path)
    assert list(repository.template_files()) == ["a/config.pbtxt"]
