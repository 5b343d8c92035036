"""A whole request through Triton: against its arithmetic, the straight version, and no server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import MASK_SIDE
from sam_refine_benchmarks.measuring import operations
from sam_refine_benchmarks.measuring.pairs import Latest, Timing, interleave, ratio_range
from sam_refine_benchmarks.measuring.results import (
    Claim,
    Result,
    duration,
    faster,
    limit_claim,
    milliseconds,
)
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, ours, server, straight
from sam_refine_benchmarks.sides.networks import exported_networks, pytorch_networks
from sam_refine_benchmarks.sides.scenes import CAMVID, CITYSCAPES, Scene, refine_unseen
from sam_refine_client import RefineClient
from sam_refine_client.transport.local_networks import Networks
from sam_refine_export.networks.sam_networks import SamNetworks

SAME_LABELS = 0.999
MOST_OF_THE_LIMIT = 1.5
MOST_OVERHEAD = 0.05
MOST_OVERHEAD_S = 0.04


@dataclass(frozen=True)
class Arithmetic:
    """Multiply-adds of the networks for one request."""

    encoder: int
    decoder: int
    """Of the prompts of all regions, a whole mask for each."""
    decoder_asked: int
    """Of what the pipeline asks for: masks of kept regions only, as far as the image goes."""

    @classmethod
    def of(cls, exported: Networks, scene: Scene) -> Arithmetic:
        image = scene.image()
        calls: list[tuple[ours.Float32, Prompts]] = []

        def decode(embedding: ours.Float32, prompts: Prompts) -> tuple[ours.Float32, ours.Float32]:
            calls.append((embedding, prompts))
            return exported.decode(embedding, prompts)

        ours.refine(exported, image, scene.scores(), scene.options, decode)
        whole = [(embedding, _with_whole_masks(prompts)) for embedding, prompts in calls]
        decoder, asked = (
            sum(ours.decoder_multiply_adds(exported, *call) for call in some)
            for some in (whole, calls)
        )
        return cls(ours.encoder_multiply_adds(exported, image), decoder, asked)


def _with_whole_masks(prompts: Prompts) -> Prompts:
    return replace(prompts, iou_threshold=-np.inf, low_res_size=(MASK_SIDE, MASK_SIDE))


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
    arithmetic = Arithmetic.of(exported, scene)

    by_straight = Latest(lambda: straight.refine(networks, inputs.unseen(image), scores, options))
    by_client = Latest(refine_unseen(client, scene))

    def in_process() -> object:
        return ours.refine(exported, inputs.unseen(image), scores, options)

    whole = interleave(
        {
            "straight": by_straight,
            "ours": by_client,
            "matrix product": operations.matrix_product(),
        },
        setting.budget_s(60, 15),
    )
    served = interleave({"client": by_client, "in process": in_process}, setting.budget_s(45, 8))
    expected, result = by_straight.result, by_client.result
    agreement = float(np.mean(result.labels == expected.labels))
    regions = result.regions or ()
    if agreement < SAME_LABELS or len(regions) != len(expected.classes):
        raise RuntimeError(
            f"straight version and server differ at {scene.size}: {len(regions)} and "
            f"{len(expected.classes)} regions, {agreement:.3%} of the labels are the same"
        )
    kept = sum(region.kept for region in regions)
    product = whole["matrix product"]
    limit_s = operations.limit_s(arithmetic.encoder + arithmetic.decoder, product)
    asked_s = operations.limit_s(arithmetic.encoder + arithmetic.decoder_asked, product)
    what = f"request, {scene.size}, {len(regions)} regions"
    claims = [
        limit_claim(
            f"{what}: arithmetic limit", limit_s, whole["ours"], product, MOST_OF_THE_LIMIT
        ),
        faster(f"{what}: PyTorch", whole["straight"], whole["ours"]),
        overhead_claim(f"{what}: serving overhead", served["client"], served["in process"]),
    ]
    data = {
        "regions": len(regions),
        "kept": kept,
        "same_labels": agreement,
        "multiply_adds": {
            "encoder": arithmetic.encoder,
            "decoder": arithmetic.decoder,
            "decoder_asked": arithmetic.decoder_asked,
        },
        "matrix_product_gflops": operations.gigaflops(product),
        "limit_s": limit_s,
        "limit_asked_s": asked_s,
        "stage_times_ms": result.timings,
        "timings": {name: timing.to_json() for name, timing in {**whole, **served}.items()},
    }
    remark = (
        f"request {scene.size}: {len(regions)} regions, {kept} kept; without the masks of regions "
        f"that fail, which the server leaves out, the limit is {duration(asked_s)} and the request "
        f"{whole['ours'].median_s / asked_s:.2f} times that; runs of the straight version: "
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
