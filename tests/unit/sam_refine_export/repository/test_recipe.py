"""The recipe covers what decides a repository, and nothing else: held in both directions."""

import ast
import shutil
from pathlib import Path

import pytest

import sam_refine
import sam_refine_export
from sam_refine.contract import tensors
from sam_refine_export.repository import recipe, template
from sam_refine_export.repository.recipe import recipe_files, recipe_sha256

EXPORT = Path(sam_refine_export.__file__).parent
LIBRARY = Path(sam_refine.__file__).parent
ROOTS = {"sam_refine": LIBRARY, "sam_refine_export": EXPORT}

OUTSIDE = {
    "__init__.py",
    "checksum.py",
    "downloads",
    "errors.py",
    "options.py",
    "pipeline.py",
    "repository",  # but for what PARTS names
    "validation",
}
"""Of the package: what decides no graph and no config."""

IMPORTED_FROM_OUTSIDE = {
    "sam_refine_export.errors": {"ExportError"},
    "sam_refine_export.options": {"Device", "Precision"},  # names of what the card holds
}
"""All that the recipe's modules may take from modules that are not in the recipe."""


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Package, contract and template as a copy that the recipe is made of; to be changed."""
    ignore = shutil.ignore_patterns("__pycache__", "*.onnx")
    shutil.copytree(EXPORT, tmp_path / "sam_refine_export", ignore=ignore)
    shutil.copytree(LIBRARY / "contract", tmp_path / "contract", ignore=ignore)
    shutil.copytree(template.template(), tmp_path / "model_repository", ignore=ignore)
    before = recipe_sha256()
    monkeypatch.setattr(recipe, "PACKAGE", tmp_path / "sam_refine_export")
    monkeypatch.setattr(tensors, "__file__", str(tmp_path / "contract/tensors.py"))
    monkeypatch.setattr(template, "template", lambda: tmp_path / "model_repository")
    assert recipe_sha256() == before  # wherever it lies
    return tmp_path


def is_part(path):
    """Whether a path of the copy is in the recipe, said anew and without its code."""
    top, *rest = path.parts
    if top == "contract":
        return rest == ["tensors.py"]
    if top == "model_repository":
        # a judge is put into a repository after its export
        return path.name != ".gitkeep" and rest[0] != "sam_mask_judge"
    wing = rest[0]
    return (wing in {"variants.py", "weights", "networks", "graphs"} and path.suffix == ".py") or (
        rest == ["repository", "triton_config.py"]
    )


def test_recipe_sha256_changes_with_each_file_of_the_recipe_and_with_no_other(copied):
    before = recipe_sha256()
    paths = [path for path in copied.rglob("*") if path.is_file()]
    changing = set()
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        if recipe_sha256() != before:
            changing.add(path.relative_to(copied))
        path.write_bytes(content)
    assert recipe_sha256() == before
    assert changing == {
        path.relative_to(copied) for path in paths if is_part(path.relative_to(copied))
    }
    assert Path("contract/options.py") not in changing
    assert Path("contract/tensors.py") in changing
    assert Path("sam_refine_export/graphs/mask_decoder.py") in changing
    assert len(changing) > 20


@pytest.mark.parametrize("wing", ["weights", "networks", "graphs"])
@pytest.mark.parametrize("name", ["new.py", "deeper/new.py", "deeper/still/new.py"])
def test_recipe_sha256_changes_with_a_file_added_to_a_wing_at_any_depth(copied, wing, name):
    before = recipe_sha256()
    path = copied / "sam_refine_export" / wing / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert recipe_sha256() != before


@pytest.mark.parametrize("wing", ["downloads", "validation", "repository", "."])
def test_recipe_sha256_stays_with_a_file_added_elsewhere(copied, wing):
    before = recipe_sha256()
    (copied / "sam_refine_export" / wing / "new.py").touch()
    assert recipe_sha256() == before


def test_recipe_sha256_changes_when_a_file_moves(copied):
    before = recipe_sha256()
    graphs = copied / "sam_refine_export/graphs"
    (graphs / "samples.py").rename(graphs / "other.py")
    assert recipe_sha256() != before


def test_recipe_sha256_changes_with_a_template_file_added_or_gone(copied):
    before = recipe_sha256()
    added = copied / "model_repository/sam_refine/1/more.py"
    added.touch()
    assert recipe_sha256() != before
    added.unlink()
    (copied / "model_repository/sam_embed/config.pbtxt").unlink()
    assert recipe_sha256() != before


def test_recipe_parts_are_there_and_every_other_module_and_wing_is_said_to_be_outside():
    assert all((EXPORT / part).exists() for part in recipe.PARTS)
    found = {
        path.name for path in EXPORT.iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))
    }
    assert found - {"model_repository"} == OUTSIDE | {
        part for part in recipe.PARTS if "/" not in part
    }


def test_recipe_is_closed_all_that_its_modules_import_is_in_it():
    inside = {path.resolve() for path in recipe_files().values() if path.suffix == ".py"}
    inside -= {path.resolve() for path in template.template_files().values()}
    taken = {}
    for path in inside:
        for module, name in imports(path):
            if file_of(module) not in inside:
                taken.setdefault(module, set()).add(name)
    assert taken == IMPORTED_FROM_OUTSIDE


def imports(path):
    """(module, name) for all that a file imports of this project, wherever in it that stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found = [
                (submodule, "")
                if file_of(submodule := f"{node.module}.{alias.name}")
                else (node.module, alias.name)
                for alias in node.names
            ]
        else:
            continue
        yield from (pair for pair in found if pair[0].partition(".")[0] in ROOTS)


def file_of(module):
    """The file of a module of this project, or None if it is none."""
    root, _, rest = module.partition(".")
    if root not in ROOTS:
        return None
    path = ROOTS[root].joinpath(*rest.split(".")) if rest else ROOTS[root]
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((each.resolve() for each in candidates if each.is_file()), None)


def test_imports_finds_every_form_of_import(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import numpy\n"
        "import sam_refine_export.pipeline\n"
        "from sam_refine.contract import MODEL_SIDE, tensors\n"
        "def lazy():\n"
        "    from sam_refine_export.errors import ExportError\n",
        encoding="utf-8",
    )
    assert sorted(imports(path)) == [
        ("sam_refine.contract", "MODEL_SIDE"),
        ("sam_refine.contract.tensors", ""),
        ("sam_refine_export.errors", "ExportError"),
        ("sam_refine_export.pipeline", ""),
    ]
