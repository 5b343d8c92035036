"""The README's figures of speed: written from the results, never by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sam_refine_benchmarks import report
from sam_refine_benchmarks.measuring.results import shown_ratio

BEGIN: Final = "<!-- speed: `make bench` writes these lines -->"
END: Final = "<!-- end of speed -->"

ROWS: Final = {
    r"request, (\d+ x \d+), (\d+) regions": "image of {0}, {1} regions, client to client",
    r"mask decoder, \d+ prompts, per prompt": "mask decoder, per prompt",
    r"SplitRegions, (19) x (.+), (\d+) regions": "splitting {0} classes at {1} into {2} regions",
    r"merge, (\d+) x (.+), (\d+) masks, labels": "merging {2} masks, {0} classes at {1}",
    r"merge, .+, \d+ masks, labels: extra memory": "extra memory of that",
}
"""What claims are called, without what they are held against, and what the README calls them."""


def update(page: Path, document: report.Document) -> None:
    """Replace what lies between `BEGIN` and `END` on the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(before + speed(document) + after, encoding="utf-8")


def speed(document: report.Document) -> str:
    """Table, machine, and what serving adds, in Markdown, from `BEGIN` to `END`."""
    minutes = sum(each["duration_s"] for each in document["benchmarks"].values()) / 60
    run = f"one run of `make bench`, {minutes:.0f} minutes; medians."
    return "\n".join(
        [
            BEGIN,
            "| | PyTorch | ours | PyTorch / ours | ours / limit |",
            "|---|---|---|---|---|",
            *_rows(document),
            "",
            f"{report.hardware(document)}; {run}",
            _serving(document),
            END,
        ]
    )


def _rows(document: report.Document) -> list[str]:
    claims = {claim["what"]: claim for claim in report.claims(document)}
    rows = []
    for pattern, words in ROWS.items():
        for what, claim in claims.items():
            match = re.fullmatch(f"({pattern})(: PyTorch)?", what)
            if match is None:
                continue
            whole, *numbers = match.groups()[:-1]
            limit = claims.get(f"{whole}: arithmetic limit")
            cells = [
                words.format(*numbers),
                claim["before"],
                claim["ours"],
                shown_ratio(claim["value"]),
                "" if limit is None else shown_ratio(limit["value"]),
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _serving(document: report.Document) -> str:
    """The claims of the server's own part."""
    overheads = [
        f"{claim['value']:+.1%} ({claim['what'].split(', ')[1]})"
        for claim in report.claims(document)
        if claim["what"].endswith(": serving overhead")
    ]
    again = [
        claim["value"]
        for claim in report.claims(document)
        if claim["what"].startswith("same image again")
    ]
    return (
        f"Serving adds {' and '.join(overheads)} to the same work in one process.\n"
        "A second request about an image does not encode it again: "
        f"{min(again):.1f} to {max(again):.1f} times as fast."
    )
