"""The results as files: everything as JSON, and the claims as a table made from that."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sam_refine_benchmarks.measuring.machine import MOST_OTHERS
from sam_refine_benchmarks.measuring.results import Measured

RESULTS: Final = "results.json"
TABLE: Final = "table.md"

Document = Mapping[str, Any]
"""What `results.json` holds: `quick`, `machine`, and by name `benchmarks`."""


def write(
    directory: Path, machine: Mapping[str, Any], results: Mapping[str, Measured], *, quick: bool
) -> None:
    """`results.json` and `table.md`, replaced whole."""
    directory.mkdir(parents=True, exist_ok=True)
    document = {
        "quick": quick,
        "machine": machine,
        "benchmarks": {name: measured.to_json() for name, measured in results.items()},
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (directory / RESULTS).write_text(text + "\n", encoding="utf-8")
    (directory / TABLE).write_text(table(document), encoding="utf-8")


def read(directory: Path) -> Document:
    """The results that were written to a directory."""
    document: Document = json.loads((directory / RESULTS).read_text(encoding="utf-8"))
    return document


def table(document: Document) -> str:
    """One row per claim, in Markdown."""
    benchmarks = document["benchmarks"]
    remarks = [remark for measured in benchmarks.values() for remark in measured["remarks"]]
    remarks += [
        f"{name}: other processes used {measured['others_share']:.0%} of the cores meanwhile; "
        "rounds that they disturbed are left out where there were calm ones"
        for name, measured in benchmarks.items()
        if measured["others_share"] > MOST_OTHERS
    ]
    lines = [
        f"# Benchmarks{', quick' if document['quick'] else ''}",
        "",
        f"{hardware(document)}; {_software(document)}.",
        "",
        "Medians; in brackets the lowest and highest ratio of one round.",
        "",
        "| what | before | ours | ratio | goal |",
        "|---|---|---|---|---|",
        *(_row(claim) for claim in claims(document)),
    ]
    if remarks:
        lines += ["", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def claims(document: Document) -> Iterable[Mapping[str, Any]]:
    """Of all benchmarks, in the order of the table; the fields are those of `Claim`."""
    for measured in document["benchmarks"].values():
        yield from measured["claims"]


def hardware(document: Document) -> str:
    """Processor, cores, memory and GPUs in words."""
    machine = document["machine"]
    cores_and_memory = f"{machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB"
    return ", ".join([machine["cpu"], cores_and_memory, *machine["gpus"]])


def _row(claim: Mapping[str, Any]) -> str:
    goal = claim["goal"]
    if claim["met"] is not None:
        goal += ", met" if claim["met"] else ", **missed**"
    cells = claim["what"], claim["before"], claim["ours"], claim["ratio"], goal
    return f"| {' | '.join(cells)} |"


def _software(document: Document) -> str:
    machine = document["machine"]
    commit = str(machine["commit"] or "no commit")[:12]
    if machine["uncommitted_changes"]:
        commit += " with uncommitted changes"
    versions = machine["versions"]
    used = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "numpy"))
    return f"{used}; commit {commit}"
