"""A judged request against one as published: the same image and regions, all four masks of each."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES, JudgeKind, RefineOptions
from sam_refine_benchmarks.measuring.pairs import Timing, interleave, ratio, ratio_range
from sam_refine_benchmarks.measuring.results import Claim, Result, at_most_claim, milliseconds
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, server
from sam_refine_benchmarks.sides.scenes import CAMVID, CITYSCAPES, Scene
from sam_refine_client import RefineClient, RefineResult
from sam_refine_export.repository.judge import JUDGE_ONNX, add_judge
from sam_refine_quality.tuning.judge_onnx import judge_graph
from sam_refine_quality.tuning.learn import TreesJudge, grow_trees
from sam_refine_quality.tuning.tables import Table

MOST: Final = 1.4


def run(setting: Setting) -> Result:
    """By the rule, and by a judge whose trees are of the size of learned ones."""
    scenes = (CAMVID,) if setting.quick else (CAMVID, CITYSCAPES)
    repository = _with_judge(setting)
    claims: list[Claim] = []
    data = {}
    with server.running(repository) as running, RefineClient(running.grpc_address) as client:
        for scene in scenes:
            regions, timings, shares = _measure(client, scene, setting.budget_s(45, 10))
            base = timings[JudgeKind.NONE]
            for kind in (JudgeKind.RULE, JudgeKind.LEARNED):
                claims.append(
                    at_most_claim(
                        f"request judged by {_JUDGES[kind]}, {scene.size}, {regions} regions: "
                        "as published",
                        milliseconds(base),
                        milliseconds(timings[kind]),
                        ratio(timings[kind], base),
                        MOST,
                        ratio_range(timings[kind], base),
                    )
                )
            data[scene.size] = {
                "regions": regions,
                "stage_times_ms": {kind.value: shares[kind] for kind in shares},
                "timings": {kind.value: timing.to_json() for kind, timing in timings.items()},
            }
    return Result(claims=tuple(claims), data={"scenes": data})


_JUDGES: Final = {JudgeKind.RULE: "the rule", JudgeKind.LEARNED: "a learned judge"}


def _measure(
    client: RefineClient, scene: Scene, budget_s: float
) -> tuple[int, dict[JudgeKind, Timing], dict[JudgeKind, dict[str, float]]]:
    """Number of regions, the timings of each kind, and the stages of a last one."""
    image, scores = scene.image(), scene.scores()
    options = {kind: replace(scene.options, judge=kind) for kind in JudgeKind}

    def call(its: RefineOptions) -> RefineResult:
        return client.refine(inputs.unseen(image), logits=scores, options=its)

    timings = interleave(
        {kind.value: partial(call, its) for kind, its in options.items()}, budget_s
    )
    last = {kind: call(its) for kind, its in options.items()}
    counts = {len(result.regions or ()) for result in last.values()}
    if len(counts) != 1:
        raise RuntimeError(f"a judge changes the number of regions: {sorted(counts)}")
    return (
        counts.pop(),
        {kind: timings[kind.value] for kind in JudgeKind},
        {kind: dict(result.timings) for kind, result in last.items()},
    )


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
