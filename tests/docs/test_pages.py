"""What README and guides refer to exists: files, sections, commands, their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sam_refine_cli.app import make_app
from support.command_line import command_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The names that headings have in links."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", prose(page))
    for link in links:
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_readme_leads_to_every_guide_and_fits_a_screen():
    text = PAGES[0].read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(docs/(\w+\.md)(?:#[^)]*)?\)", text))
    assert linked == {page.name for page in PAGES[1:]}
    assert len(text.splitlines()) <= 100


def commands_of(page: Path) -> list[list[str]]:
    """The words of each `sam-refine ...` in a page's shell blocks, up to a lone `--`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if "sam-refine " in line]
    ours = [words[1:] for words in found if words and words[0].endswith("sam-refine")]
    return [words[: words.index("--")] if "--" in words else words for words in ours]


@every_page
def test_commands_have_the_options_that_are_shown(page):
    program: Any = typer.main.get_command(make_app())
    for words in commands_of(page):
        command = command_of(program, words)
        known = {
            flag for option in command.params for flag in (*option.opts, *option.secondary_opts)
        }
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"sam-refine {words[0]}"


def test_commands_are_found():
    assert sum(len(commands_of(page)) for page in PAGES) > 10
