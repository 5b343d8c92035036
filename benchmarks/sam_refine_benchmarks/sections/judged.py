"""A judged request against one as published: the same image and regions, all four masks of each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES, JudgeKind
from sam_refine_benchmarks.measuring.pairs import Latest, interleave
from sam_refine_benchmarks.measuring.results import Claim, Result, dearer
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import server
from sam_refine_benchmarks.sides.scenes import CAMVID, CITYSCAPES, Scene, refine_unseen
from sam_refine_client import RefineClient
from sam_refine_export.repository.judge import JUDGE_ONNX, add_judge
from sam_refine_quality.tuning.judge_onnx import judge_graph
from sam_refine_quality.tuning.learn import TreesJudge, grow_trees
from sam_refine_quality.tuning.tables import Table

MOST: Final = 1.4
_JUDGES: Final = {JudgeKind.RULE: "the rule", JudgeKind.LEARNED: "a learned judge"}


def run(setting: Setting) -> Result:
    """By the rule, and by a judge whose trees are of the size of learned ones."""
    scenes = (CAMVID,) if setting.quick else (CAMVID, CITYSCAPES)
    repository = _with_judge(setting)
    claims: list[Claim] = []
    data = {}
    with server.running(repository) as running, RefineClient(running.grpc_address) as client:
        for scene in scenes:
            some, data[scene.size] = _measure(client, scene, setting.budget_s(45, 10))
            claims += some
    return Result(claims=tuple(claims), data={"scenes": data})


def _measure(
    client: RefineClient, scene: Scene, budget_s: float
) -> tuple[list[Claim], dict[str, Any]]:
    calls = {kind.value: Latest(refine_unseen(client, scene, kind)) for kind in JudgeKind}
    timings = interleave(calls, budget_s)
    counts = {len(call.result.regions or ()) for call in calls.values()}
    if len(counts) != 1:
        raise RuntimeError(f"a judge changes the number of regions: {sorted(counts)}")
    (regions,) = counts
    claims = [
        dearer(
            f"request judged by {judge}, {scene.size}, {regions} regions: as published",
            timings[JudgeKind.NONE.value],
            timings[kind.value],
            MOST,
        )
        for kind, judge in _JUDGES.items()
    ]
    data = {
        "regions": regions,
        "stage_times_ms": {kind: call.result.timings for kind, call in calls.items()},
        "timings": {kind: timing.to_json() for kind, timing in timings.items()},
    }
    return claims, data


def _with_judge(setting: Setting) -> Path:
    """A copy of the export with a judge that has learned noise: its trees are full-grown."""
    copy = setting.scratch / "judged_repository"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(setting.model_repository, copy, ignore=shutil.ignore_patterns("__pycache__"))
    random = np.random.default_rng(0)
    masks, changes = (
        grow_trees(
            [
                Table(
                    random.random((count, columns), np.float32),
                    random.uniform(-1, 1, count).astype(np.float32),
                )
            ],
            min_samples_leaf=least,
        )
        for count, columns, least in (
            (5_000, len(MASK_FEATURES), 20),
            (50_000, len(CHANGE_FEATURES), 100),
        )
    )
    directory = setting.scratch / "judge"
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(judge_graph(TreesJudge(masks, changes)), directory / JUDGE_ONNX)
    add_judge(copy, directory)
    return copy
