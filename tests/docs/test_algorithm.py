"""The page of the algorithm: its names are where it says, and no line is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/algorithm.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_names_are_defined_where_their_links_lead():
    links = re.findall(r"\[`(\w+(?:\.refine)?)`\]\((\.\./\w+/[^)]+\.py)\)", TEXT)
    assert len(links) > 15
    for name, path in links:
        tree = ast.parse((PAGE.parent / path).resolve().read_text(encoding="utf-8"))
        defined = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        if not path.endswith("__init__.py"):
            assert name.split(".")[-1] in defined, f"{name} in {path}"


def test_each_line_of_the_listing_with_a_step_has_a_row():
    listing = re.search(r"```text\n(.*?)```", TEXT, re.S).group(1)
    numbers = {int(line[:2]) for line in listing.splitlines()}
    rows = re.findall(r"^\| ([0-9, to]+) \|", TEXT, re.M)
    described = set()
    for row in rows:
        for part in row.split(", "):
            first, _, last = part.partition(" to ")
            described |= set(range(int(first), int(last or first) + 1))
    # what opens a block, collects, or joins: nothing to say of it
    assert numbers - described == {2, 9, 10, 11, 21, 22}


def test_pipeline_calls_the_steps_in_the_order_of_the_listing():
    steps = [
        "coarse_map", "split_regions", "embed", "transform_prompts", "batch_size", "predict",
        "unrefined_map", "map_refinement", "fall_back", "map_failed_regions",
    ]  # fmt: skip
    source = (ROOT / "python_backend/sam_refine/algorithm/pipeline.py").read_text(encoding="utf-8")
    refine = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "refine"
    )
    calls = sorted(
        (node.lineno, node.func.id)
        for node in ast.walk(refine)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    )
    assert [name for _, name in calls if name in steps] == steps
