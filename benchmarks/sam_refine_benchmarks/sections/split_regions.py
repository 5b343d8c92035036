"""SplitRegions: ours against a component pass per class and a full-size mask per region."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sam_refine.contract import RefineOptions
from sam_refine_benchmarks.measuring.pairs import Latest, Timing, interleave
from sam_refine_benchmarks.measuring.results import Claim, Figure, Result, Series, faster
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, ours, straight

OPTIONS = RefineOptions(min_region_area=16)


@dataclass(frozen=True)
class Case:
    """A made-up coarse map on a working grid."""

    classes: int
    height: int
    width: int
    cell: int
    """Of its noise: decides the number of regions."""
    goal: float | None = None

    @property
    def size(self) -> str:
        return f"{self.classes} x {self.height} x {self.width}"

    def maps(self) -> tuple[ours.Labels, ours.Float32]:
        """Labels (h_d, w_d) int32 and scores (C, h_d, w_d)."""
        scores = inputs.noise_scores(self.classes, self.height, self.width, self.cell)
        return scores.argmax(axis=0).astype(np.int32), scores


CASES = (Case(19, 1024, 2048, 32, goal=100), Case(150, 512, 683, 22, goal=50))
QUICK_CASES = (Case(19, 256, 512, 16), Case(150, 128, 171, 10))

SIZES = tuple(Case(19, side // 2, side, 32) for side in (256, 512, 1024, 2048))
CLASS_COUNTS = tuple(Case(classes, 512, 683, 22) for classes in (5, 10, 20, 40, 80, 150))


def run(setting: Setting) -> Result:
    """Two sizes against the straight version, then cost against pixels and against classes."""
    claims: list[Claim] = []
    compared: dict[str, Any] = {}
    for case in QUICK_CASES if setting.quick else CASES:
        claim, compared[case.size] = _compare(case, setting.budget_s(20, 4))
        claims.append(claim)
    sizes, class_counts = (SIZES[:2], CLASS_COUNTS[:3]) if setting.quick else (SIZES, CLASS_COUNTS)
    by_pixels = _costs(sizes, setting)
    by_classes = _costs(class_counts, setting)
    slow = [size for size, found in compared.items() if not found["straight"]["warmed_up"]]
    return Result(
        claims=tuple(claims),
        data={
            "compared": compared,
            "against_pixels": {case.size: timing.to_json() for case, timing in by_pixels.items()},
            "against_classes": {case.size: timing.to_json() for case, timing in by_classes.items()},
        },
        figures=(
            Figure(
                "split_regions_pixels",
                "SplitRegions, 19 classes, blobs of 32 cells",
                "cells of the working grid",
                "ms",
                (Series.of("ours", {c.height * c.width: t for c, t in by_pixels.items()}, 1000),),
                logarithmic=True,
            ),
            Figure(
                "split_regions_classes",
                "SplitRegions, 512 x 683 cells",
                "classes",
                "ms",
                (Series.of("ours", {c.classes: t for c, t in by_classes.items()}, 1000),),
            ),
        ),
        remarks=tuple(f"SplitRegions {size}: the straight version ran once" for size in slow),
    )


def _compare(case: Case, budget_s: float) -> tuple[Claim, dict[str, Any]]:
    labels, scores = case.maps()
    labels_tensor, scores_tensor = torch.from_numpy(labels).long(), torch.from_numpy(scores)
    regions = ours.split(labels, scores, OPTIONS)
    # The masks themselves are gigabytes: only the boxes are kept.
    by_straight = Latest(
        lambda: [
            each.boxes_xyxy
            for each in straight.split_regions(labels_tensor, scores_tensor, OPTIONS)
        ]
    )
    timings = interleave(
        {"straight": by_straight, "ours": lambda: ours.split(labels, scores, OPTIONS)}, budget_s
    )
    boxes = {tuple(box) for boxes in by_straight.result for box in boxes.tolist()}
    if boxes != {tuple(box) for box in regions.boxes_xyxy_grid.tolist()}:
        raise RuntimeError(f"the two versions of SplitRegions differ on {case.size}")
    claim = faster(
        f"SplitRegions, {case.size}, {len(regions)} regions",
        timings["straight"],
        timings["ours"],
        case.goal,
    )
    data = {name: timing.to_json() for name, timing in timings.items()}
    return claim, {"regions": len(regions), **data}


def _costs(cases: Iterable[Case], setting: Setting) -> dict[Case, Timing]:
    alternatives: dict[str, Callable[[], object]] = {}
    by_name = {case.size: case for case in cases}
    for name, case in by_name.items():
        labels, scores = case.maps()
        alternatives[name] = lambda labels=labels, scores=scores: ours.split(
            labels, scores, OPTIONS
        )  # type: ignore[misc]
    timings = interleave(alternatives, setting.budget_s(5, 1))
    return {by_name[name]: timing for name, timing in timings.items()}
