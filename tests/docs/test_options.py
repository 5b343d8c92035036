"""docs/options.md has every option as the contract has it, and pictures of what they do."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import RefineOptions

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "options.md").read_text(encoding="utf-8")
NAMES = [option.name for option in fields(RefineOptions)]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "make_option_pictures", DOCS / "demo/make_option_pictures.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_the_contract(name: str) -> tuple[object, str]:
    """Choices or range of an option, and its default as the table writes it."""
    default = getattr(RefineOptions(), name)
    if isinstance(default, Enum):
        return [f"`{choice.value}`" for choice in type(default)], f"`{default.value}`"
    if isinstance(default, bool):
        return ["true", "false"], str(default).lower()
    return RefineOptions.range_of(name), "none" if default is None else f"{default:g}"


def test_table_has_every_option_s_range_and_default():
    rows = re.findall(r"^\| \[`(\w+)`\]\(#(\w+)\) \| (.+?) \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)
    assert [(name, link) for name, link, _, _ in rows] == [(name, name) for name in NAMES]
    for name, _, values, default in rows:
        low, _, high = values.partition(" to ")
        written = (float(low), float(high)) if high else values.split(", ")
        assert (written, default) == of_the_contract(name), name


def test_every_option_has_a_section_and_every_choice_its_row():
    assert re.findall(r"^## `(\w+)`$", PAGE, re.MULTILINE) == NAMES
    for name in ("mask_prompt", "failed_regions"):
        (section,) = re.findall(rf"^## `{name}`$(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
        rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        choices = type(getattr(RefineOptions(), name))
        assert sorted(rows) == sorted(choice.value for choice in choices)


def test_page_shows_the_pictures_that_the_script_makes(script):
    shown = re.findall(r"!\[.+?\]\(options/(\w+)\.jpg\)", PAGE)
    made = [picture.option for picture in script.PICTURES]
    assert sorted(shown) == sorted(made) == sorted(path.stem for path in DOCS.glob("options/*"))
    for picture in script.PICTURES:
        (section,) = re.findall(
            rf"^## `{picture.option}`$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL
        )
        assert f"options/{picture.option}.jpg" in section
        default = getattr(RefineOptions(), picture.option)
        assert any(RefineOptions(**{picture.option: its}) == RefineOptions() for its in
                   picture.values), f"{picture.option}={default} is not shown"  # fmt: skip
    assert all(path.stat().st_size < 300_000 for path in DOCS.glob("options/*"))


def test_pictures_are_what_the_script_makes(script, repository, tmp_path):
    pictures = [p for p in script.PICTURES if p.option in ("iou_threshold", "mask_prompt")]
    for path in script.make_pictures(repository, tmp_path, pictures):
        found, kept = (
            np.asarray(Image.open(each), np.int16) for each in (path, DOCS / "options" / path.name)
        )
        assert found.shape == kept.shape
        assert np.abs(found - kept).mean() < 1, path.name
        assert np.mean(np.abs(found - kept) > 40) < 0.002, path.name


def test_code_runs():
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, {})
