from __future__ import annotations

import json

import matplotlib.pyplot as plt
import pytest

from sam_refine_benchmarks import plots, report
from sam_refine_benchmarks.measuring.results import Claim, Figure, Measured, Result, Series

MACHINE = {
    "cpu": "EPYC avx2",
    "cores": 2,
    "memory_bytes": 2**34,
    "gpus": [],
    "versions": {"torch": "2.13", "onnxruntime": "1.32", "numpy": "1.26", "pillow": "12"},
    "commit": "0123456789abcdef",
    "uncommitted_changes": True,
}
RESULTS = {
    "decoder": Measured(
        Result(
            (
                Claim("decoder", "100 ms", "10 ms", "10.0", 10.0, "≥ 10", True),
                Claim("limit", "8 ms", "16 ms", "2.00", 2.0, "≤ 1.5", False),
            ),
            {"prompts": 32},
        ),
        duration_s=20.0,
        others_share=0.04,
    ),
    "memory": Measured(
        Result((Claim("memory", "1 MB", "2 MB", "2.00", 2.0),), {}, (), ("once only",)), 10.0, 0.5
    ),
}


def document(*, quick):
    benchmarks = {name: measured.to_json() for name, measured in RESULTS.items()}
    return {"quick": quick, "machine": MACHINE, "benchmarks": benchmarks}


def test_table_has_a_row_for_each_claim():
    assert report.table(document(quick=False)) == (
        "# Benchmarks\n"
        "\n"
        "EPYC avx2, 2 cores, 16 GiB; torch 2.13, onnxruntime 1.32, numpy 1.26; "
        "commit 0123456789ab with uncommitted changes.\n"
        "\n"
        "Medians; in brackets the lowest and highest ratio of one round.\n"
        "\n"
        "| what | before | ours | ratio | goal |\n"
        "|---|---|---|---|---|\n"
        "| decoder | 100 ms | 10 ms | 10.0 | ≥ 10, met |\n"
        "| limit | 8 ms | 16 ms | 2.00 | ≤ 1.5, **missed** |\n"
        "| memory | 1 MB | 2 MB | 2.00 |  |\n"
        "\n"
        "- once only\n"
        "- memory: other processes used 50% of the cores meanwhile; rounds that they disturbed are "
        "left out where there were calm ones\n"
    )


def test_table_of_a_quick_run_says_so():
    assert report.table(document(quick=True)).startswith("# Benchmarks, quick\n")


def test_write_replaces_both_files(tmp_path):
    for _ in range(2):
        report.write(tmp_path / "results", MACHINE, RESULTS, quick=True)
    written = report.read(tmp_path / "results")
    assert written == json.loads(json.dumps(document(quick=True)))
    assert written["quick"] is True
    assert written["machine"]["cpu"] == "EPYC avx2"
    decoder = written["benchmarks"]["decoder"]
    assert (decoder["prompts"], decoder["others_share"]) == (32, 0.04)
    table = (tmp_path / "results" / "table.md").read_text(encoding="utf-8")
    assert table == report.table(written)


def test_draw_writes_a_picture(tmp_path):
    series = (Series("a", (1, 2), (3, 4), (2, 3), (4, 5)), Series("b", (1, 2), (5, 6)))
    path = plots.draw(Figure("lines", "Lines", "x", "y", series, logarithmic=True), tmp_path)
    assert path == tmp_path / "lines.png"
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("x", "logarithmic", "ticks"),
    [
        ((32_768, 2_097_152), True, ["32,768", "2,097,152"]),
        ((1, 2, 4), False, ["1", "2", "3", "4"]),
    ],
)
def test_label_writes_counts_as_whole_numbers(x, logarithmic, ticks):
    canvas, axes = plt.subplots()
    axes.plot(x, x)
    plots.label(axes, Figure("f", "F", "x", "y", (Series("a", x, x),), logarithmic=logarithmic))
    low, high = axes.get_xlim()
    places = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert axes.xaxis.get_major_formatter().format_ticks(places) == ticks
    plt.close(canvas)
