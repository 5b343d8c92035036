"""Write the tables of docs/options.md anew, from the rows in sam_refine/contract/options.py.

    python docs/demo/make_options_table.py

Each table stands between two comments, `<!-- table: NAME -->` and `<!-- end of table -->`: one of
all options, and one for each option that has choices. A test fails where the page is out of date.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from sam_refine.contract import OptionRow, RefineOptions

PAGE = Path(__file__).parents[1] / "options.md"
ALL_OPTIONS = "options"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def main() -> None:
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(page: str) -> str:
    """The page with all its tables made anew. Raises `KeyError` for a table of another name."""
    made = tables()
    return _TABLE.sub(lambda found: found[1] + made[found[2]] + found[3], page)


def tables() -> dict[str, str]:
    """Markdown of each table, by name."""
    rows = RefineOptions.rows.values()
    headings = "option", "range", "default", "what it does", "why this default; when to change it"
    options = [
        (f"[`{row.name}`](#{row.name})", _range(row), _default(row), row.help, row.reason)
        for row in rows
    ]
    choices = {
        row.name: [(f"`{choice.value}`", choice.explanation) for choice in row.choices]
        for row in rows
        if row.choices
    }
    return {
        ALL_OPTIONS: _table(headings, options),
        **{name: _table(("value", "what it does"), values) for name, values in choices.items()},
    }


def _range(row: OptionRow) -> str:
    if row.range is not None:
        low, high = row.range
        return f"{low} to {high}" if row.kind is int else f"{low:g} to {_power_of_ten(high)}"
    if row.choices:
        return ", ".join(f"`{choice.value}`" for choice in row.choices)
    return "true, false"


def _power_of_ten(value: float) -> str:
    """1e6 as people write it: `g` alone gives 1e+06."""
    return f"{value:g}".replace("e+0", "e").replace("e+", "e")


def _default(row: OptionRow) -> str:
    if row.default is None:
        return "none"
    if row.choices:
        return f"`{row.default.value}`"
    return str(row.default).lower() if row.kind is bool else f"{row.default:g}"


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    rule = ("---",) * len(headings)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rule, *rows))


if __name__ == "__main__":
    main()
