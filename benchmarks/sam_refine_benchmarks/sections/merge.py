"""MapRefinement and MapFailedRegions: ours against N full-size masks; time and memory."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sam_refine.algorithm.merge import RefinedMap
from sam_refine.contract import FailedRegions, RefineOptions
from sam_refine_benchmarks.measuring.pairs import Latest, Timing, interleave
from sam_refine_benchmarks.measuring.results import (
    Claim,
    Figure,
    Result,
    Series,
    at_least_claim,
    faster,
    megabytes,
)
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, ours, straight

OPTIONS = RefineOptions(min_region_area=16, failed_regions=FailedRegions.SCORES_ONLY)
"""Failed regions are as in the published code."""
KEPT_SHARE = 0.8
SAME_LABELS = 0.999
"""Share of pixels on which the two must agree: float rounding decides near ties."""
SIDES = ("straight", "ours, labels", "ours, labels and logits")


@dataclass(frozen=True)
class Case:
    """A made-up coarse map of an image, its working grid half of it, and a mask for each region."""

    classes: int
    height: int
    width: int
    cell: int
    most_regions: int | None = None
    """At most so many are kept; never more than 80 % of all."""

    @property
    def size(self) -> str:
        return f"{self.classes} x {self.height} x {self.width}"


CASE = Case(150, 512, 683, 22)
QUICK_CASE = Case(40, 192, 256, 22)


class Problem:
    """A case in the terms of both sides: PyTorch has a mask of every region, ours of kept ones."""

    def __init__(self, case: Case) -> None:
        height, width = case.height, case.width
        self.scores = inputs.noise_scores(case.classes, height, width, case.cell)
        self.labels = self.scores.argmax(axis=0).astype(np.int32)
        scores_grid = inputs.resized(self.scores, height // 2, width // 2)
        labels_grid = np.ascontiguousarray(self.labels[: height // 2 * 2 : 2, : width // 2 * 2 : 2])
        regions = ours.split(labels_grid, scores_grid, OPTIONS)
        random = np.random.default_rng(0)
        kept = random.random(len(regions)) < KEPT_SHARE
        if case.most_regions is not None:
            kept &= random.permutation(len(regions)) < case.most_regions
        self.masks = inputs.mask_logits(regions.boxes_xyxy_grid, (height // 2, width // 2))
        self.decoded = ours.Decoded(regions, kept, self.masks[kept])

    def merge_ours(self, *, want_logits: bool) -> RefinedMap:
        return ours.merge(self.decoded, self.scores, self.labels, OPTIONS, want_logits=want_logits)

    def merge_straight(self) -> Callable[[], straight.StraightMap]:
        """The straight version with its own inputs ready: a mask of the grid for each region."""
        regions = self.decoded.regions
        split, masks, kept = [], [], []
        for class_id in np.unique(regions.classes):
            chosen = np.flatnonzero(regions.classes == class_id)
            grids = torch.from_numpy(np.stack([regions.region_map == region for region in chosen]))
            split.append(
                straight.ClassRegions(
                    int(class_id),
                    grids,
                    torch.from_numpy(regions.boxes_xyxy_grid[chosen]),
                    torch.from_numpy(regions.points_xy_grid[chosen]),
                    torch.from_numpy(regions.scores[chosen]),
                )
            )
            masks.append(torch.from_numpy(self.masks[chosen]))
            kept.append(torch.from_numpy(self.decoded.kept[chosen]))
        scores, labels = torch.from_numpy(self.scores), torch.from_numpy(self.labels).long()
        return partial(straight.merge, split, masks, kept, scores, labels, OPTIONS)

    def prepare(self, side: str) -> Callable[[], npt.NDArray[np.integer[Any]]]:
        """One of SIDES, ready to run, to refined labels (H, W)."""
        if side == "straight":
            merge = self.merge_straight()
            return lambda: merge().labels.numpy()
        want_logits = side == "ours, labels and logits"
        return lambda: self.merge_ours(want_logits=want_logits).labels


def run(setting: Setting) -> Result:
    """Time and extra memory of one size; then cost against regions, pixels and classes."""
    case = QUICK_CASE if setting.quick else CASE
    problem = Problem(case)
    sides = {side: Latest(problem.prepare(side)) for side in SIDES}
    timings = interleave(sides, setting.budget_s(60, 6))
    agreement = float(np.mean(sides["ours, labels"].result == sides["straight"].result))
    if agreement < SAME_LABELS:
        raise RuntimeError(f"the two versions of the merge agree on {agreement:.3%} of the pixels")
    memory_bytes = {side: extra_memory_bytes(case, side) for side in SIDES}
    curves = _curves(setting)
    kept = int(problem.decoded.kept.sum())
    return Result(
        claims=_claims(case, kept, timings, memory_bytes),
        data={
            "size": case.size,
            "regions": len(problem.decoded.regions),
            "kept": kept,
            "same_labels": agreement,
            "timings": {name: timing.to_json() for name, timing in timings.items()},
            "extra_memory_bytes": memory_bytes,
            "curves": {
                name: {x: timing.to_json() for x, timing in curve.items()}
                for name, curve in curves.items()
            },
        },
        figures=tuple(
            Figure(
                f"merge_{name}",
                f"Merge, labels only ({case.size} where not varied)",
                label,
                "ms",
                (Series.of("ours", curves[name], 1000),),
            )
            for name, label in (
                ("regions", "regions kept"),
                ("pixels", "pixels"),
                ("classes", "classes"),
            )
        ),
    )


def _claims(
    case: Case, kept: int, timings: dict[str, Timing], memory_bytes: dict[str, int]
) -> tuple[Claim, ...]:
    claims = []
    for side in SIDES[1:]:
        what = f"merge, {case.size}, {kept} masks, {side.removeprefix('ours, ')}"
        claims.append(faster(what, timings["straight"], timings[side], 50))
        claims.append(
            at_least_claim(
                f"{what}: extra memory",
                megabytes(memory_bytes["straight"]),
                megabytes(memory_bytes[side]),
                memory_bytes["straight"] / memory_bytes[side],
                4,
            )
        )
    return tuple(claims)


def _curves(setting: Setting) -> dict[str, dict[int, Timing]]:
    """Timings of ours, labels only, by what they are plotted against."""
    case = QUICK_CASE if setting.quick else CASE
    counts = [10, 40] if setting.quick else [25, 50, 100, 200, 400, 800]
    shares = [0.5, 1.0] if setting.quick else [0.25, 0.5, 0.75, 1.0]
    class_counts = [10, 40] if setting.quick else [5, 10, 20, 40, 80, 150]
    sizes = [(round(case.height * share), round(case.width * share)) for share in shares]
    return {
        "regions": _costs(
            [replace(case, most_regions=count) for count in counts],
            lambda problem: int(problem.decoded.kept.sum()),
            setting,
        ),
        "pixels": _costs(
            [replace(case, height=height, width=width) for height, width in sizes],
            lambda problem: problem.labels.size,
            setting,
        ),
        "classes": _costs(
            [replace(case, classes=count) for count in class_counts],
            lambda problem: len(problem.scores),
            setting,
        ),
    }


def _costs(
    cases: Iterable[Case], x: Callable[[Problem], int], setting: Setting
) -> dict[int, Timing]:
    problems = {x(problem): problem for problem in map(Problem, cases)}
    timings = interleave(
        {str(key): problem.prepare("ours, labels") for key, problem in problems.items()},
        setting.budget_s(8, 1),
    )
    return {key: timings[str(key)] for key in problems}


def extra_memory_bytes(case: Case, side: str) -> int:
    """Peak resident memory of one merge over what the process held before it.

    Measured in a process of its own, so that every library and every side is counted alike.
    """
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            __name__,
            json.dumps(asdict(case)),
            side,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(answer.stdout)


def _measure_here(case: Case, side: str) -> int:
    Problem(QUICK_CASE).prepare(side)()  # libraries, threads and tables are there before
    run_once = Problem(case).prepare(side)
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would not be seen to be taken
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
    before = _status_bytes("VmRSS")
    result = run_once()
    peak = _status_bytes("VmHWM")
    del result
    return peak - before


def _status_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    fields: dict[str, Any] = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields[field].split()[0]) * 1024


if __name__ == "__main__":
    print(_measure_here(Case(**json.loads(sys.argv[1])), sys.argv[2]))
