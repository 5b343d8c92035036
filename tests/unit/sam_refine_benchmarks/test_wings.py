"""Imports of the benchmarks run one way; import-linter sees only what is installed."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sam_refine_benchmarks

PACKAGE = Path(sam_refine_benchmarks.__file__).parent
NAME = PACKAGE.name
MAY_IMPORT = {
    "measuring": {"measuring"},
    "sides": {"measuring", "sides"},
    "sections": {"measuring", "sides", "setting"},
}


def imports_of(path: Path) -> set[str]:
    """The package's own modules that one imports, as paths with dots inside the package."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == NAME:
            parent = node.module.partition(".")[2]
            for alias in node.names:
                place = ".".join(filter(None, [parent, alias.name]))
                is_module = (PACKAGE / f"{place.replace('.', '/')}.py").is_file()
                imported.add(place if is_module else parent)
    return imported


GRAPH = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): imports_of(path)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}


@pytest.mark.parametrize("wing", MAY_IMPORT)
def test_wing_imports_only_what_lies_below_it(wing):
    modules = {name: imported for name, imported in GRAPH.items() if name.startswith(f"{wing}.")}
    assert len(modules) > 3
    for name, imported in modules.items():
        assert {each.split(".")[0] for each in imported} <= MAY_IMPORT[wing], name


def test_modules_have_no_cycle():
    order = list(TopologicalSorter(GRAPH).static_order())
    assert order.index("measuring.pairs") < order.index("sections.request") < order.index("suite")


def test_straight_side_knows_only_the_contract_of_what_it_is_compared_with():
    tree = ast.parse((PACKAGE / "sides/straight.py").read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {module for module in modules if module.startswith("sam_refine")}
    assert ours == {"sam_refine.contract", "sam_refine_export.networks.sam_networks"}
