"""`python -m sam_refine_benchmarks.gpu`: what a GPU makes of the exported graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sam_refine.contract.serving.gpu import has_gpu
from sam_refine_benchmarks.gpu.placement import PlacementError, placement
from sam_refine_benchmarks.measuring.machine import ROOT, describe
from sam_refine_export import Device, ExportError, Precision

GPU_PYTHON = ROOT / ".venv-gpu/bin/python"
Python = Annotated[Path, typer.Option(help="Of an environment with the extras gpu and cli.")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command("place")
def place(
    graphs: Annotated[list[Path], typer.Argument(help="ONNX files.", dir_okay=False, exists=True)],
    python: Python = GPU_PYTHON,
) -> None:
    """Say where the nodes of graphs would run on a GPU; none is needed."""
    for graph in graphs:
        try:
            found = placement(graph, python)
        except PlacementError as error:
            typer.echo(error, err=True)
            raise typer.Exit(1) from error
        typer.echo(
            f"{graph}: {found.on_gpu} nodes on the GPU, {found.on_host.total()} on the host, "
            f"{found.without_kernel} of them for want of a CUDA kernel; copies within the graph: "
            + (", ".join(f"{direction} {tensor}" for direction, tensor in found.copies) or "none")
        )


@app.command("check")
def check_gpu(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="Others beside MobileSAM, such as vit_b's."),
    ] = None,
    precisions: Annotated[
        list[Precision] | None, typer.Option("--precision", help="All, unless told.")
    ] = None,
    device: Annotated[Device, typer.Option(help="cpu: to try the check itself.")] = Device.GPU,
    seconds: Annotated[float, typer.Option(min=1, help="For the times of each scene.")] = 60,
    python: Python = GPU_PYTHON,
    output: Annotated[Path, typer.Option(help="The report.")] = ROOT / "build/gpu_check.json",
) -> None:
    """Export, serve on the GPU, and hold its answers against the CPU's; write a report."""
    from sam_refine_benchmarks.gpu.check import SCENES, check, export, is_near

    if device is Device.GPU and not has_gpu():
        typer.echo("no NVIDIA GPU is seen here, and the check is of one", err=True)
        raise typer.Exit(1)
    report: dict[str, object] = {"machine": describe()}
    is_well = True
    for checkpoint in [None, *(checkpoints or ())]:
        for precision in precisions or list(Precision):
            name = f"{checkpoint or 'MobileSAM'}, {precision.value}"
            try:
                repository = export(ROOT / "build/gpu_check", checkpoint, precision, device)
                name = repository.name
                found = check(repository, python, seconds, SCENES)
            except (RuntimeError, ExportError, PlacementError) as error:
                typer.echo(f"{name}: {error}", err=True)
                raise typer.Exit(1) from error
            report[name] = found
            is_well = is_well and not found["warnings"]
            for scene in found["scenes"]:
                is_well = is_well and is_near(scene, precision)
                typer.echo(
                    f"{name} {scene['size']}: "
                    f"{scene['pixels_equal']:.2%} of the pixels equal, embedding off by "
                    f"{scene['embedding_difference']:.1e}, regions kept {scene['regions_kept']}; "
                    f"{scene['gpu_ms']:.0f} ms, on this CPU {scene['cpu_ms']:.0f} ms"
                )
            for warning in found["warnings"]:
                typer.echo(warning, err=True)
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(0 if is_well else 1)


if __name__ == "__main__":
    app()
