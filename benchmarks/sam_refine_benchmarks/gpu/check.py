"""A GPU's answers held against the CPU's, of one repository: `make gpu-check` does it.

Both sides get the same graphs, images and options. The CPU is this process; the GPU is a server
that another environment runs, with onnxruntime-gpu.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER
from sam_refine_benchmarks.gpu.placement import placement
from sam_refine_benchmarks.measuring.pairs import interleave
from sam_refine_benchmarks.sides.scenes import CAMVID, CITYSCAPES, Scene, refine_unseen
from sam_refine_benchmarks.sides.server import supervised
from sam_refine_client import RefineClient, RefineResult
from sam_refine_export import Device, ExportOptions, Model, Precision, export_repository, is_current

SCENES: Final = (CAMVID, CITYSCAPES)
NETWORKS: Final = (SAM_IMAGE_ENCODER.name, SAM_MASK_DECODER.name)
LEAST_PIXELS_EQUAL: Final = {Precision.FP32: 0.999, Precision.FP16: 0.98}
LARGEST_EMBEDDING_DIFFERENCE: Final = {Precision.FP32: 1e-3, Precision.FP16: 2e-2}
"""As the export allows half precision; in full, what another order of additions makes."""


@dataclass(frozen=True)
class Agreement:
    """One scene on both sides."""

    size: str
    embedding_difference: float
    """Largest, as a share of the CPU's largest value."""
    pixels_equal: float
    """Share of the refined map."""
    regions_kept: tuple[int, int]
    """By the CPU, by the GPU."""
    cpu_ms: float
    """Median of requests on images that the server has not seen."""
    gpu_ms: float


def is_near(scene: Mapping[str, Any], precision: Precision) -> bool:
    """Whether a scene's `Agreement` is what a precision allows; what is not a number is not."""
    return bool(
        scene["pixels_equal"] >= LEAST_PIXELS_EQUAL[precision]
        and scene["embedding_difference"] <= LARGEST_EMBEDDING_DIFFERENCE[precision]
    )


def export(directory: Path, checkpoint: Path | None, precision: Precision, device: Device) -> Path:
    """The repository of one checkpoint, made where it is not there yet; None is MobileSAM."""
    name = Model.MOBILE.value if checkpoint is None else checkpoint.stem
    repository = directory / f"{name}_{precision.value}_{device.value}"
    options = ExportOptions(None, checkpoint, precision, device)
    if not is_current(repository, options):
        export_repository(repository, options, replace=True)
    return repository


def check(
    repository: Path, python: Path, budget_s: float, scenes: tuple[Scene, ...]
) -> dict[str, Any]:
    """Both sides on `scenes`, what the server says of itself, and where its nodes run."""
    with supervised(repository, python) as server, RefineClient.local(repository) as cpu:
        with RefineClient(server.url) as gpu:
            agreements = [agreement(cpu, gpu, scene, budget_s) for scene in scenes]
        memory_bytes = [
            sample.value
            for family in server.metrics("--metrics-port")
            for sample in family.samples
            if sample.name == "nv_gpu_memory_used_bytes"
        ]
        warnings = json.loads(server.page("--health-port", "/ready"))["warnings"]
    return {
        "scenes": [asdict(each) for each in agreements],
        "warnings": warnings,
        "gpu_memory_bytes": sum(memory_bytes) if memory_bytes else None,
        "placement": {
            name: described(repository / name / "1" / "model.onnx", python) for name in NETWORKS
        },
    }


def agreement(cpu: RefineClient, gpu: RefineClient, scene: Scene, budget_s: float) -> Agreement:
    """One scene: the same image for the answers, unseen ones for the times."""
    image, scores = scene.image(), scene.scores()
    embeddings = [client.embed(image).values for client in (cpu, gpu)]
    largest = float(np.abs(embeddings[0]).max())
    results = [client.refine(image, logits=scores, options=scene.options) for client in (cpu, gpu)]
    labels = [labels_of(result) for result in results]
    sides = {"cpu": refine_unseen(cpu, scene), "gpu": refine_unseen(gpu, scene)}
    timings = interleave(sides, budget_s)
    return Agreement(
        size=scene.size,
        embedding_difference=float(np.abs(embeddings[1] - embeddings[0]).max()) / largest,
        pixels_equal=float((labels[0] == labels[1]).mean()),
        regions_kept=(kept(results[0]), kept(results[1])),
        cpu_ms=timings["cpu"].median_s * 1e3,
        gpu_ms=timings["gpu"].median_s * 1e3,
    )


def labels_of(result: RefineResult) -> Any:
    assert result.labels is not None
    return result.labels


def kept(result: RefineResult) -> int:
    return sum(region.kept for region in result.regions or ())


def described(graph: Path, python: Path) -> dict[str, Any]:
    """Where a graph's nodes run, for the report."""
    found = placement(graph, python)
    return {
        "on_gpu": found.on_gpu,
        "on_host": found.on_host.total(),
        "without_kernel": found.without_kernel,
        "copies": [f"{direction} {tensor}" for direction, tensor in found.copies],
    }
