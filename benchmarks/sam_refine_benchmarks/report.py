"""The results as files: everything as JSON, the claims as a table, the figures as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sam_refine_benchmarks.measuring.machine import MOST_OTHERS
from sam_refine_benchmarks.measuring.results import Claim, Measured

TABLE: Final = "table.md"


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
    (directory / "results.json").write_text(text + "\n", encoding="utf-8")
    (directory / TABLE).write_text(table(machine, results, quick=quick), encoding="utf-8")


def table(machine: Mapping[str, Any], results: Mapping[str, Measured], *, quick: bool) -> str:
    """One row per claim, in Markdown."""
    rows = [_row(claim) for measured in results.values() for claim in measured.result.claims]
    remarks = [remark for measured in results.values() for remark in measured.result.remarks]
    remarks += [
        f"{name}: other processes used {measured.others_share:.0%} of the cores meanwhile; rounds "
        "that they disturbed are left out where there were calm ones"
        for name, measured in results.items()
        if measured.others_share > MOST_OTHERS
    ]
    lines = [
        f"# Benchmarks{', quick' if quick else ''}",
        "",
        _machine(machine),
        "",
        "Medians; in brackets the lowest and highest ratio of one round.",
        "",
        "| what | before | ours | ratio | goal |",
        "|---|---|---|---|---|",
        *rows,
    ]
    if remarks:
        lines += ["", *(f"- {remark}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def _row(claim: Claim) -> str:
    goal = claim.goal
    if claim.met is not None:
        goal += ", met" if claim.met else ", **missed**"
    return f"| {claim.what} | {claim.before} | {claim.ours} | {claim.ratio} | {goal} |"


def _machine(machine: Mapping[str, Any]) -> str:
    commit = str(machine["commit"] or "no commit")[:12]
    if machine["uncommitted_changes"]:
        commit += " with uncommitted changes"
    versions = machine["versions"]
    used = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "numpy"))
    hardware = [f"{machine['cores']} cores", f"{machine['memory_bytes'] / 2**30:.0f} GiB"]
    return f"{', '.join([machine['cpu'], *hardware, *machine['gpus']])}; {used}; commit {commit}."
