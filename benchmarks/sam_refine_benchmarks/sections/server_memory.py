"""Memory of the server and its stubs over many requests of mixed sizes."""

from __future__ import annotations

from typing import Any

from sam_refine.contract import MaskPrompt, RefineOptions
from sam_refine_benchmarks.measuring.results import (
    Claim,
    Figure,
    Result,
    Series,
    megabytes,
    shown_ratio,
)
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, server
from sam_refine_client import RefineClient

SIZES = (
    (360, 480, 11),
    (240, 320, 21),
    (512, 683, 150),
    (600, 400, 6),
    (1024, 2048, 19),
    (375, 1242, 19),
    (1, 64, 3),
    (720, 960, 32),
)
"""(H, W, C), one after the other; scores at an eighth of the side."""
EVERY = 5


def run(setting: Setting) -> Result:
    """Resident memory at the start, after every fifth request, at the end."""
    requests, early = (16, 8) if setting.quick else (200, 50)
    images = [inputs.photo(height, width) for height, width, _ in SIZES]
    scores = [
        inputs.photo_scores(image, classes, max(1, height // 8), max(1, width // 8))
        for image, (height, width, classes) in zip(images, SIZES, strict=True)
    ]
    counts: list[int] = []
    with (
        server.running(setting.model_repository) as running,
        RefineClient(running.grpc_address) as client,
    ):
        samples = {0: server.resident_bytes(running)}
        for done in range(1, requests + 1):
            image, logits = images[done % len(SIZES)], scores[done % len(SIZES)]
            result = client.refine(inputs.unseen(image), logits=logits, options=options(image))
            counts.append(len(result.regions or ()))
            if done % EVERY == 0 or done in (early, requests):
                samples[done] = server.resident_bytes(running)
    totals = {done: sum(sample.values()) for done, sample in samples.items()}
    growth = totals[requests] / totals[early]
    claim = Claim(
        f"server memory, request {early} to {requests}, mixed sizes",
        f"{megabytes(totals[early])} ({megabytes(totals[0])} at start)",
        megabytes(totals[requests]),
        shown_ratio(growth),
        growth,
    )
    data: dict[str, Any] = {"regions": counts, "resident_bytes": samples}
    return Result(claims=(claim,), data=data, figures=(_figure(samples, totals),))


def options(image: inputs.UInt8) -> RefineOptions:
    """Few regions, so that many requests take little time: at least a fiftieth of the grid each."""
    grid_cells = image.shape[0] * image.shape[1] // 4
    return RefineOptions(mask_prompt=MaskPrompt.SAM, min_region_area=grid_cells // 50)


def _figure(samples: dict[int, dict[str, int]], totals: dict[int, int]) -> Figure:
    x = tuple(samples)
    names = dict.fromkeys(name for sample in samples.values() for name in sample)
    lines = {name: tuple(samples[done].get(name, 0) / 1e6 for done in x) for name in names}
    return Figure(
        "server_memory",
        "Resident memory over requests of mixed sizes",
        "requests",
        "MB",
        (
            Series("all", x, tuple(total / 1e6 for total in totals.values())),
            *(Series(name, x, line) for name, line in lines.items()),
        ),
    )
