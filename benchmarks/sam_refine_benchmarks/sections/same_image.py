"""A second request about the same image, with other scores, against the first about a new one."""

from __future__ import annotations

from sam_refine_benchmarks.measuring.pairs import Timing, interleave
from sam_refine_benchmarks.measuring.results import Result, faster
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, server
from sam_refine_benchmarks.sides.scenes import CAMVID, SMALL, Scene
from sam_refine_client import RefineClient


def run(setting: Setting) -> Result:
    """With few regions, and with many, where the decoder takes the time."""
    claims, data = [], {}
    with (
        server.running(setting.model_repository) as running,
        RefineClient(running.grpc_address) as client,
    ):
        for scene in (SMALL, CAMVID):
            regions, timings = _measure(client, scene, setting.budget_s(15, 4))
            claims.append(
                faster(
                    f"same image again, {scene.size}, {regions} regions",
                    timings["new image"],
                    timings["same image"],
                )
            )
            data[f"{regions} regions"] = {
                name: timing.to_json() for name, timing in timings.items()
            }
    return Result(claims=tuple(claims), data={"scenes": data})


def _measure(client: RefineClient, scene: Scene, budget_s: float) -> tuple[int, dict[str, Timing]]:
    """Number of regions, and the timings of both requests."""
    scores, options = scene.scores(), scene.options
    # The same classes in another order: other bytes, as many regions.
    other_scores = scores[::-1].copy()
    image = scene.image()

    def new_image() -> object:
        nonlocal image
        image = inputs.unseen(image)
        return client.refine(image, logits=scores, options=options)

    def same_image() -> object:
        return client.refine(image, logits=other_scores, options=options)

    timings = interleave({"new image": new_image, "same image": same_image}, budget_s)
    return len(client.refine(image, logits=scores, options=options).regions or ()), timings
