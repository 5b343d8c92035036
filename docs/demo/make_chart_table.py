"""Write the table of deploy/chart/README.md anew, from deploy/chart/values.yaml and its comments.

    python docs/demo/make_chart_table.py

A test fails where the table is out of date.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "chart"
PAGE = CHART / "README.md"
VALUES = CHART / "values.yaml"
_TABLE = re.compile(r"(<!-- values -->\n).*?(<!-- end of values -->)", re.DOTALL)


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(page: str) -> str:
    """The page with its table made anew."""
    rows = "".join(
        f"| `{name}` | `{json.dumps(default)}` | {text} |\n" for name, default, text in values()
    )
    table = f"| value | default | what it is |\n|---|---|---|\n{rows}"
    return _TABLE.sub(lambda found: found[1] + table + found[2], page)


def values() -> list[tuple[str, object, str]]:
    """Name, default and comment of every value. Raises `ValueError` for one without a comment."""
    text = VALUES.read_text(encoding="utf-8")
    return list(_values(yaml.compose(text), "", text.splitlines()))


def _values(
    node: yaml.MappingNode, prefix: str, lines: list[str]
) -> Iterator[tuple[str, object, str]]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        comment = _comment_above(key.start_mark.line, lines)
        if isinstance(value, yaml.MappingNode) and value.value and comment is None:
            yield from _values(value, f"{name}.", lines)
        elif comment is None:
            raise ValueError(f"{name} has no comment in {VALUES}")
        else:
            yield name, yaml.SafeLoader("").construct_document(value), comment


def _comment_above(line: int, lines: list[str]) -> str | None:
    above = lines[line - 1].strip() if line else ""
    return above.removeprefix("# ") if above.startswith("# ") else None


if __name__ == "__main__":
    main()
