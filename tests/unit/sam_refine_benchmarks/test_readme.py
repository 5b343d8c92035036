"""What the repository shows of the benchmarks is what the committed results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_refine_benchmarks import readme, report

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks/results"


def claim(what, before, ours, value):
    return {"what": what, "before": before, "ours": ours, "ratio": f"{value:.2f} (1 to 9)",
            "value": value, "goal": "", "met": None}  # fmt: skip


DOCUMENT = {
    "quick": False,
    "machine": {"cpu": "EPYC avx2", "cores": 2, "memory_bytes": 2**34, "gpus": ["H100"]},
    "benchmarks": {
        "request": {
            "duration_s": 100.0,
            "claims": [
                claim("request, 10 x 20, 3 regions: arithmetic limit", "limit 1.0 s", "1.4 s", 1.4),
                claim("request, 10 x 20, 3 regions: PyTorch", "11 s", "1.4 s", 7.9),
                claim("request, 10 x 20, 3 regions: serving overhead", "1.0 s", "1.1 s", -0.031),
            ],
        },
        "merge": {
            "duration_s": 20.0,
            "claims": [claim("merge, 150 x 5 x 6, 595 masks, labels", "4.1 s", "47 ms", 86.0)],
        },
        "same_image": {
            "duration_s": 0.0,
            "claims": [
                claim("same image again, 10 x 20, 3 regions", "2 s", "1 s", 2.04),
                claim("same image again, 10 x 20, 9 regions", "3 s", "1 s", 3.0),
            ],
        },
    },
}
SPEED = f"""{readme.BEGIN}
| | PyTorch | ours | PyTorch / ours | ours / limit |
|---|---|---|---|---|
| image of 10 x 20, 3 regions, client to client | 11 s | 1.4 s | 7.90 | 1.40 |
| merging 595 masks, 150 classes at 5 x 6 | 4.1 s | 47 ms | 86.0 |  |

EPYC avx2, 2 cores, 16 GiB, H100; one run of `make bench`, 2 minutes; medians.
Serving adds -3.1% (10 x 20) to the same work in one process.
A second request about an image does not encode it again: 2.0 to 3.0 times as fast.
{readme.END}"""


def test_speed_has_a_row_for_each_claim_that_it_knows_with_its_limit_beside_it():
    assert readme.speed(DOCUMENT) == SPEED


def test_update_replaces_what_lies_between_the_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        readme.update(page, DOCUMENT)
    assert page.read_text(encoding="utf-8") == f"before\n{SPEED}\nafter\n"


def test_update_refuses_a_page_without_the_marks(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README.md has no lines <!-- speed"):
        readme.update(page, DOCUMENT)
    assert page.read_text(encoding="utf-8") == "before\n"


def test_readme_shows_the_committed_results():
    assert readme.speed(report.read(RESULTS)) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_row_of_the_readme_finds_its_claim_in_the_committed_results():
    table = readme.speed(report.read(RESULTS)).splitlines()
    rows = [line for line in table if line.startswith("| ") and not line.startswith("| |")]
    assert len(rows) == len(readme.ROWS) + 1  # two sizes of a request


def test_table_is_that_of_the_committed_results():
    table = (RESULTS / report.TABLE).read_text(encoding="utf-8")
    assert table == report.table(report.read(RESULTS))
