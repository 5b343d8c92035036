"""The figures of quality as tables: for benchmarks/results, and for the README."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias

BEGIN: Final = "<!-- quality: `make bench-quality` writes these lines -->"
END: Final = "<!-- end of quality -->"

HEADINGS: Final = ("options", "mIoU", "difference", "95 %", "worst class", "accuracy", "at borders",
                   "changed", "made right", "made wrong")  # fmt: skip

Document: TypeAlias = list[dict[str, Any]]
"""A data set each: name, images, and by the name of the options their figures."""


def table(document: Document) -> str:
    """Every figure, in Markdown."""
    lines = ["# What refinement does to coarse maps", ""]
    for each in document:
        coarse = [f"{each['coarse'][name]:.2f}" for name in ("miou", "accuracy", "border_accuracy")]
        lines += [
            f"## {each['name']}, {each['images']} images",
            "",
            _row(HEADINGS),
            _row(["---"] * len(HEADINGS)),
            _row(["coarse", coarse[0], "", "", "", *coarse[1:], "", "", ""]),
            *(_row(_cells(name, found)) for name, found in each["options"].items()),
            "",
        ]
    return "\n".join(lines)


def _cells(name: str, found: dict[str, Any]) -> list[str]:
    difference, (low, high) = found["difference"], found["intervals"]["miou"]
    changed = [found["changed"][key] for key in ("fraction", "made_right", "made_wrong")]
    return [
        name,
        f"{found['refined']['miou']:.2f}",
        f"{difference['miou']:+.2f}",
        f"{low:+.2f} to {high:+.2f}",
        f"{min(found['by_class'].values()):+.2f}",
        f"{difference['accuracy']:+.2f}",
        f"{difference['border_accuracy']:+.2f}",
        *("-" if value is None else f"{value:.1f} %" for value in changed),
    ]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def summary(document: Document) -> str:
    """mIoU before, and by how much each set of options changes it, from `BEGIN` to `END`."""
    names = list(document[0]["options"])
    lines = [
        BEGIN,
        f"| mIoU | coarse | {' | '.join(f'`{name}`' for name in names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for each in document:
        cells = [f"{each['options'][name]['difference']['miou']:+.2f}" for name in names]
        lines.append(
            f"| {each['name']}, {each['images']} images | {each['coarse']['miou']:.2f} | "
            f"{' | '.join(cells)} |"
        )
    return "\n".join([*lines, END])


def update(page: Path, document: Document) -> None:
    """Replace what lies between `BEGIN` and `END` on the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(before + summary(document) + after, encoding="utf-8")
