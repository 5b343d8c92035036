import json
import shutil

import pytest

from sam_refine_export import ExportError, inspect_repository
from sam_refine_export.repository.model_card import CARD_NAME, read_card
from sam_refine_export.repository.repository import DECODER_ONNX, ENCODER_ONNX


@pytest.fixture
def copy(repository, tmp_path):
    """A copy of the exported repository, to be changed."""
    return shutil.copytree(
        repository, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__")
    )


def test_inspect_repository_untouched_matches_its_card(copy):
    inspection = inspect_repository(copy)
    assert inspection.card == read_card(copy)
    assert inspection.matches_card
    assert inspection.recipe_is_current
    assert set(inspection.files.intact) == set(inspection.card.files)


def test_inspect_repository_byte_code_of_a_server_does_not_count(copy):
    (copy / "sam_refine/1/__pycache__").mkdir()
    (copy / "sam_refine/1/__pycache__/model.cpython-311.pyc").touch()
    assert inspect_repository(copy).matches_card


def test_inspect_repository_names_every_file_that_differs(copy):
    (copy / ENCODER_ONNX).write_bytes((copy / ENCODER_ONNX).read_bytes()[:-1])
    (copy / DECODER_ONNX).unlink()
    (copy / "sam_refine/1/notes.txt").touch()
    (copy / "stranger/1").mkdir(parents=True)
    (copy / "stranger/1/model.py").touch()
    inspection = inspect_repository(copy)
    assert not inspection.matches_card
    assert inspection.files.changed == (ENCODER_ONNX,)
    assert inspection.files.missing == (DECODER_ONNX,)
    assert inspection.files.added == ("sam_refine/1/notes.txt", "stranger/1/model.py")
    assert ENCODER_ONNX not in inspection.files.intact


def test_inspect_repository_of_another_recipe_says_so(copy):
    card = (copy / CARD_NAME).read_text(encoding="utf-8")
    recipe = read_card(copy).recipe_sha256
    (copy / CARD_NAME).write_text(card.replace(recipe, "0" * 64), encoding="utf-8")
    inspection = inspect_repository(copy)
    assert inspection.matches_card
    assert not inspection.recipe_is_current


def test_inspect_repository_without_a_card_is_an_error(tmp_path):
    with pytest.raises(ExportError, match="is not a repository of sam-refine: it has no model_"):
        inspect_repository(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda card: None,
        lambda card: [],
        lambda card: {"model": "mobile"},
        lambda card: card | {"validation": {"interface": [], "values": [{"output": "x"}]}},
        lambda card: card | {"files": ["sam_refine/config.pbtxt"]},
        lambda card: card | {"source": {"name": "x", "licence": None, "sha256": {"x": None}}},
    ],
)
def test_inspect_repository_unreadable_card_is_an_error(repository, tmp_path, change):
    card = json.loads((repository / CARD_NAME).read_text(encoding="utf-8"))
    (tmp_path / CARD_NAME).write_text(json.dumps(change(card)), encoding="utf-8")
    with pytest.raises(ExportError, match=r"model_card\.json cannot be read: it is damaged or fr"):
        inspect_repository(tmp_path)
