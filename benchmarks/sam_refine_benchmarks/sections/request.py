"""A whole request through Triton: against the straight version, and against no server at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_refine.contract import FailedRegions, MaskPrompt, RefineOptions
from sam_refine_benchmarks.measuring.pairs import Latest, Timing, interleave, ratio_range
from sam_refine_benchmarks.measuring.results import Claim, Result, duration, faster, milliseconds
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, ours, server, straight
from sam_refine_benchmarks.sides.networks import exported_networks, pytorch_networks
from sam_refine_client import RefineClient, RefineResult
from sam_refine_client.transport.local_networks import Networks
from sam_refine_export.networks.sam_networks import SamNetworks

SAME_LABELS = 0.999
MOST_OVERHEAD = 0.05
MOST_OVERHEAD_S = 0.04


@dataclass(frozen=True)
class Scene:
    """The demo's photo at a size, with a coarse map made of its colours."""

    height: int
    width: int
    classes: int
    score_height: int
    score_width: int
    min_region_area: int
    half: bool
    """Scores in float16."""
    goal: float | None = None

    @property
    def size(self) -> str:
        return f"{self.height} x {self.width}"

    @property
    def options(self) -> RefineOptions:
        """Failed regions are as in the published code: it is all that the straight side knows."""
        return RefineOptions(
            mask_prompt=MaskPrompt.SAM,
            iou_threshold=0.7,
            min_region_area=self.min_region_area,
            failed_regions=FailedRegions.SCORES_ONLY,
        )

    def image(self) -> inputs.UInt8:
        return inputs.photo(self.height, self.width)

    def scores(self) -> npt.NDArray[np.float16] | ours.Float32:
        scores = inputs.photo_scores(
            self.image(), self.classes, self.score_height, self.score_width
        )
        return scores.astype(np.float16) if self.half else scores


CAMVID = Scene(360, 480, 11, 48, 64, min_region_area=100, half=False, goal=5)
CITYSCAPES = Scene(1024, 2048, 19, 128, 256, min_region_area=400, half=True, goal=10)
SMALL = Scene(360, 480, 11, 48, 64, min_region_area=900, half=False)
"""As CAMVID with few regions, for what is about many requests."""


def run(setting: Setting) -> Result:
    """Both scenes; every call has an image that was never seen before."""
    scenes = (CAMVID,) if setting.quick else (CAMVID, CITYSCAPES)
    networks = pytorch_networks()
    exported = exported_networks(setting.model_repository)
    claims: list[Claim] = []
    data, remarks = {}, []
    with (
        server.running(setting.model_repository) as running,
        RefineClient(running.grpc_address) as client,
    ):
        for scene in scenes:
            some, data[scene.size], remark = _measure(scene, networks, exported, client, setting)
            claims += some
            remarks.append(remark)
    return Result(claims=tuple(claims), data={"scenes": data}, remarks=tuple(remarks))


def _measure(
    scene: Scene,
    networks: SamNetworks,
    exported: Networks,
    client: RefineClient,
    setting: Setting,
) -> tuple[list[Claim], dict[str, Any], str]:
    image, scores, options = scene.image(), scene.scores(), scene.options

    by_straight = Latest(lambda: straight.refine(networks, inputs.unseen(image), scores, options))
    by_client = Latest(refine_unseen(client, scene))

    def in_process() -> object:
        return ours.refine(exported, inputs.unseen(image), scores, options)

    whole = interleave({"straight": by_straight, "ours": by_client}, setting.budget_s(60, 15))
    served = interleave({"client": by_client, "in process": in_process}, setting.budget_s(45, 8))
    expected, result = by_straight.result, by_client.result
    agreement = float(np.mean(result.labels == expected.labels))
    regions = result.regions or ()
    if agreement < SAME_LABELS or len(regions) != expected.regions:
        raise RuntimeError(
            f"straight version and server differ at {scene.size}: {len(regions)} and "
            f"{expected.regions} regions, {agreement:.3%} of the labels are the same"
        )
    kept = sum(region.kept for region in regions)
    what = f"request, {scene.size}, {len(regions)} regions"
    claims = [
        faster(f"{what}: PyTorch", whole["straight"], whole["ours"], scene.goal),
        overhead_claim(f"{what}: serving overhead", served["client"], served["in process"]),
    ]
    data = {
        "regions": len(regions),
        "kept": kept,
        "same_labels": agreement,
        "stage_times_ms": result.timings,
        "timings": {name: timing.to_json() for name, timing in {**whole, **served}.items()},
    }
    remark = (
        f"request {scene.size}: {len(regions)} regions, {kept} kept; runs of the straight version: "
        f"{len(whole['straight'].runs_s)}"
    )
    return claims, data, remark


def overhead_claim(what: str, client: Timing, in_process: Timing) -> Claim:
    """What a caller waits over the same work done in its own process; 5 % or 40 ms are allowed."""
    over_s = client.median_s - in_process.median_s
    share = over_s / in_process.median_s
    rounds = ratio_range(client, in_process)
    shown_range = "" if rounds is None else f" ({rounds[0] - 1:+.0%} to {rounds[1] - 1:+.0%})"
    return Claim(
        what,
        f"{milliseconds(in_process)} in process",
        milliseconds(client),
        f"{'-' if over_s < 0 else '+'}{duration(abs(over_s))}, {share:+.1%}{shown_range}",
        share,
        f"≤ {MOST_OVERHEAD:.0%} or {MOST_OVERHEAD_S * 1000:.0f} ms",
        share <= MOST_OVERHEAD or over_s <= MOST_OVERHEAD_S,
    )


def refine_unseen(client: RefineClient, scene: Scene) -> Callable[[], RefineResult]:
    """A call of `scene` with an image that was never seen before, ready to run."""
    image, scores, options = scene.image(), scene.scores(), scene.options

    def call() -> RefineResult:
        return client.refine(inputs.unseen(image), logits=scores, options=options)

    return call
