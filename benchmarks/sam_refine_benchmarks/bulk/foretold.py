"""What `sam-refine plan` foretells of a data set, against the run of `sam-refine bulk` itself.

As its user would: `bulk` on a few shards prints a rate, `plan` makes hours of it, then the other
shards are refined.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sam_refine_benchmarks.bulk.data import write_shard

FEW = 2
"""Shards of which the rate is measured."""


def foretold(
    url: str, folder: Path, images: int, shards: int, concurrency: int, say: Callable[[str], None]
) -> float:
    """Say what was foretold and what it took. Returns foretold / taken.

    `images` of each shard; `shards` are foretold. Writes to `folder`, which must be empty.
    """
    for number in range(FEW + shards):
        name = "few" if number < FEW else "all"
        write_shard(folder / name / f"{number:05}.tar", number * images, images)

    def bulk(name: str) -> str:
        out = str(folder / f"refined_{name}")
        words = ("--url", url, "--concurrency", str(concurrency))
        return _sam_refine("bulk", "run", str(folder / name), out, *words)

    rate = float(_found(r"images/s\s+([\d.]+)", bulk("few")))
    count = shards * images
    plan: dict[str, float] = json.loads(
        _sam_refine(
            *("plan", str(count), "--rate", str(rate), "--deadline-h", "1000", "--start-s", "0"),
            *("--images-per-shard", str(images), "--json"),
        )
    )
    assert plan["machines"] == 1, plan
    started_s = time.perf_counter()
    bulk("all")
    taken_s, foretold_s = time.perf_counter() - started_s, plan["hours"] * 3600
    ratio = foretold_s / taken_s
    say(
        f"{count} images in {shards} shards: {foretold_s:.0f} s foretold by {FEW} shards "
        f"({rate:.2f}/s), taken {taken_s:.0f} s, foretold / taken {ratio:.3f}"
    )
    return ratio


def _sam_refine(*words: str) -> str:
    command = [sys.executable, "-m", "sam_refine_cli", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]
