"""docs/options.md has every option as the contract has it, and pictures of what they do."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_refine.contract import RefineOptions

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "options.md").read_text(encoding="utf-8")
NAMES = list(RefineOptions.rows)


def module_of(name: str):
    """A script of docs/demo."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"demo/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return module_of("make_option_pictures")


@pytest.fixture(scope="module")
def table_script():
    return module_of("make_options_table")


def test_tables_are_what_the_script_makes_of_the_rows(table_script):
    """Where this fails: python docs/demo/make_options_table.py."""
    assert table_script.with_tables(PAGE) == PAGE
    for name, table in table_script.tables().items():
        assert PAGE.count(f"<!-- table: {name} -->\n{table}<!-- end of table -->") == 1, name


def test_table_has_every_option_with_its_texts_range_and_default(table_script):
    lines = table_script.tables()["options"].splitlines()[2:]
    assert len(lines) == len(NAMES)
    for line, row in zip(lines, RefineOptions.rows.values(), strict=True):
        assert line.startswith(f"| [`{row.name}`](#{row.name}) | ")
        assert line.endswith(f" | {row.help} | {row.reason} |")
    written = [line.split(" | ")[1:3] for line in lines]
    assert written == [
        ["1 to 64", "2"],
        ["0 to 1e30", "0"],
        ["0 to 1", "0.8"],
        ["`none`, `sam`, `trident`", "`trident`"],
        ["0 to 1e6", "0.005"],
        ["0 to 2147483647", "0"],
        ["`scores_only`, `compete`, `keep_coarse`", "`keep_coarse`"],
        ["true, false", "false"],
        ["`none`, `rule`, `learned`", "`none`"],
        ["-1 to 1", "0"],
        ["1 to 2147483647", "none"],
        ["-2147483648 to 2147483647", "none"],
    ]


def test_with_tables_replaces_what_stands_there_and_nothing_else(table_script):
    page = "Before.\n<!-- table: mask_prompt -->\nold\n<!-- end of table -->\nAfter."
    made = table_script.with_tables(page)
    assert made.startswith("Before.\n<!-- table: mask_prompt -->\n| value | what it does |\n")
    assert made.endswith("|\n<!-- end of table -->\nAfter.")
    assert "old" not in made
    with pytest.raises(KeyError, match="other"):
        table_script.with_tables("<!-- table: other -->\n<!-- end of table -->")


def section(name: str) -> str:
    (text,) = re.findall(rf"^## `{name}`$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return text


def test_every_option_has_a_section_and_every_choice_its_row():
    assert re.findall(r"^## `(\w+)`$", PAGE, re.MULTILINE) == NAMES
    for row in RefineOptions.rows.values():
        values = re.findall(r"^\| `(\w+)` \|", section(row.name), re.MULTILINE)
        assert values == [choice.value for choice in row.choices]


def test_page_shows_the_pictures_that_the_script_makes(script):
    shown = re.findall(r"!\[.+?\]\(options/(\w+)\.jpg\)", PAGE)
    made = [picture.option for picture in script.PICTURES]
    assert sorted(shown) == sorted(made) == sorted(path.stem for path in DOCS.glob("options/*"))
    for picture in script.PICTURES:
        assert f"options/{picture.option}.jpg" in section(picture.option)
        default = RefineOptions.rows[picture.option].default
        assert any(RefineOptions(**{picture.option: its}) == RefineOptions() for its in
                   picture.values), f"{picture.option}={default} is not shown"  # fmt: skip
    assert all(path.stat().st_size < 300_000 for path in DOCS.glob("options/*"))


def test_pictures_are_what_the_script_makes(script, mobile_sam_repository, tmp_path):
    pictures = [p for p in script.PICTURES if p.option in ("iou_threshold", "mask_prompt")]
    for path in script.make_pictures(mobile_sam_repository, tmp_path, pictures):
        found, kept = (
            np.asarray(Image.open(each), np.int16) for each in (path, DOCS / "options" / path.name)
        )
        assert found.shape == kept.shape
        assert np.abs(found - kept).mean() < 1, path.name
        assert np.mean(np.abs(found - kept) > 40) < 0.002, path.name


def test_code_runs():
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, {})
