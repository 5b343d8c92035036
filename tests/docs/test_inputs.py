"""docs/inputs.md says what becomes of each form, as reading it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sam_refine_client.reading.palettes import PALETTES
from support.inputs.forms import forms

PAGE = (Path(__file__).parents[2] / "docs/inputs.md").read_text(encoding="utf-8")


def test_tables_are_what_reading_the_forms_says():
    """Where this fails: python docs/demo/make_inputs_table.py."""
    made = forms.tables()
    for name, table in made.items():
        assert f"<!-- table: {name} -->\n{table}<!-- end of table -->" in PAGE, name
    assert re.findall(r"<!-- table: (\w+) -->", PAGE) == list(made)


@pytest.mark.parametrize("table", list(forms.TABLES))
def test_every_form_is_there_once_and_each_kind_of_outcome(table):
    rows = re.findall(r"^\| (.+?) \| (\**\w+\**) \| (.*)\|$", section(table), re.MULTILINE)
    assert [form for form, _, _ in rows] == [form for form, _ in forms.TABLES[table]]
    assert len({form for form, _, _ in rows}) == len(rows)
    for form, outcome, said in rows:
        assert (outcome == "taken") == (not said.strip()), form
        assert outcome in ("taken", "warning", "**refused**")


def section(table):
    found = re.search(rf"<!-- table: {table} -->\n(.*?)<!-- end of table -->", PAGE, re.DOTALL)
    return found[1].partition("---")[2]


def test_page_names_every_table_of_colours_and_variable():
    for name in PALETTES:
        assert f"`{name}`" in PAGE
    root = Path(__file__).parents[2]
    code = "".join(
        (root / path).read_text(encoding="utf-8")
        for path in (
            "client/sam_refine_client/transport/environment.py",
            "cli/sam_refine_cli/options/connection.py",
        )
    )
    assert set(re.findall(r"SAM_REFINE_[A-Z_]+", code)) == set(
        re.findall(r"SAM_REFINE_[A-Z_]+", PAGE)
    )
