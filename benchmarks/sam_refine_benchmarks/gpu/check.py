"""A GPU's answers held against the CPU's, of one repository: `make gpu-check` does it.

Both sides get the same graphs, images and options. The CPU is this process; the GPU is a server
that another environment runs, with onnxruntime-gpu.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from sam_refine_benchmarks.gpu.placement import placement
from sam_refine_benchmarks.sides.scenes import CAMVID, CITYSCAPES, Scene, refine_unseen
from sam_refine_cli.commands.demo import free_ports
from sam_refine_client import RefineClient, RefineResult
from sam_refine_export import Device, ExportOptions, Model, Precision, export_repository, is_current

SCENES: Final = (CAMVID, CITYSCAPES)
NETWORKS: Final = ("sam_image_encoder", "sam_mask_decoder")


LEAST_PIXELS_EQUAL: Final = {Precision.FP32: 0.999, Precision.FP16: 0.98}
LARGEST_EMBEDDING_DIFFERENCE: Final = {Precision.FP32: 1e-3, Precision.FP16: 2e-2}
"""As the export allows half precision; in full, what another order of additions makes."""


class GpuCheckError(Exception):
    """The check could not be made: nothing was learned about answers."""


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
    repository: Path, python: Path, repeats: int, scenes: tuple[Scene, ...]
) -> dict[str, Any]:
    """Both sides on `scenes`, what the server says of itself, and where its nodes run."""
    with served(repository, python) as server, RefineClient.local(repository) as cpu:
        with RefineClient(server.url) as gpu:
            agreements = [agreement(cpu, gpu, scene, repeats) for scene in scenes]
        metrics = server.metrics()
        warnings = server.warnings()
    return {
        "scenes": [asdict(each) for each in agreements],
        "warnings": warnings,
        "gpu_memory_bytes": metrics.get("nv_gpu_memory_used_bytes"),
        "placement": {
            name: described(repository / name / "1" / "model.onnx", python) for name in NETWORKS
        },
    }


def agreement(cpu: RefineClient, gpu: RefineClient, scene: Scene, repeats: int) -> Agreement:
    """One scene: the same image for the answers, unseen ones for the times."""
    image, scores = scene.image(), scene.scores()
    embeddings = [client.embed(image).values for client in (cpu, gpu)]
    largest = float(np.abs(embeddings[0]).max())
    results = [client.refine(image, logits=scores, options=scene.options) for client in (cpu, gpu)]
    labels = [labels_of(result) for result in results]
    times = [milliseconds(refine_unseen(client, scene), repeats) for client in (cpu, gpu)]
    return Agreement(
        size=scene.size,
        embedding_difference=float(np.abs(embeddings[1] - embeddings[0]).max()) / largest,
        pixels_equal=float((labels[0] == labels[1]).mean()),
        regions_kept=(kept(results[0]), kept(results[1])),
        cpu_ms=times[0],
        gpu_ms=times[1],
    )


def labels_of(result: RefineResult) -> Any:
    assert result.labels is not None
    return result.labels


def kept(result: RefineResult) -> int:
    return sum(region.kept for region in result.regions or ())


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Median; once before it is counted."""
    call()
    times = []
    for _ in range(repeats):
        begun_s = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun_s) * 1e3)
    return statistics.median(times)


def described(graph: Path, python: Path) -> dict[str, Any]:
    """Where a graph's nodes run, for the report."""
    found = placement(graph, python)
    return {
        "on_gpu": found.on_gpu,
        "on_host": found.on_host.total(),
        "without_kernel": found.without_kernel,
        "copies": [f"{direction} {tensor}" for direction, tensor in found.copies],
    }


# --- The server ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """`sam-refine serve` of another environment."""

    url: str
    metrics_url: str
    health_url: str

    def metrics(self) -> dict[str, float]:
        """Triton's own without labels that matter here: the last value of each name."""
        text = _get(self.metrics_url)
        families = text_string_to_metric_families(text)
        return {sample.name: sample.value for family in families for sample in family.samples}

    def warnings(self) -> list[str]:
        """Such as that a network computes on the CPU."""
        found: list[str] = json.loads(_get(self.health_url))["warnings"]
        return found


@contextmanager
def served(repository: Path, python: Path) -> Iterator[Served]:
    """A server by `python`'s environment, until the end of the block."""
    names = ("--grpc-port", "--http-port", "--metrics-port", "--health-port")
    ports = dict(zip(names, free_ports(4), strict=True))
    command = [str(python.parent / "sam-refine"), "serve", "--model-repository", str(repository)]
    options = [word for name, port in ports.items() for word in (name, str(port))]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    address = partial("127.0.0.1:{}".format)
    try:
        if not process.stdout.readline().startswith("ready:"):
            raise GpuCheckError("the server did not start; it has said why above")
        yield Served(
            address(ports["--grpc-port"]),
            f"http://{address(ports['--metrics-port'])}/metrics",
            f"http://{address(ports['--health-port'])}/ready",
        )
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as page:
        text: str = page.read().decode()
    return text
