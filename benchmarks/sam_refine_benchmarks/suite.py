"""All benchmarks, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import psutil

from sam_refine_benchmarks import plots, report
from sam_refine_benchmarks.measuring import machine
from sam_refine_benchmarks.measuring.results import Measured, Result
from sam_refine_benchmarks.sections import (
    decoder,
    encoder,
    judged,
    merge,
    overload,
    request,
    same_image,
    server_memory,
    split_regions,
    throughput,
)
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides.networks import ensure_exported

BENCHMARKS: Final[Mapping[str, Callable[[Setting], Result]]] = MappingProxyType(
    {
        "decoder": decoder.run,
        "encoder": encoder.run,
        "split_regions": split_regions.run,
        "merge": merge.run,
        "request": request.run,
        "judged": judged.run,
        "same_image": same_image.run,
        "throughput": throughput.run,
        "overload": overload.run,
        "server_memory": server_memory.run,
    }
)


def run(
    names: Collection[str], setting: Setting, output: Path, on_step: Callable[[str], None]
) -> dict[str, Measured]:
    """Run the named benchmarks; files are written after each, so that none is lost."""
    ensure_exported(setting.model_repository, on_step)
    described = machine.describe()
    results: dict[str, Measured] = {}
    for name, benchmark in BENCHMARKS.items():
        if name not in names:
            continue
        on_step(name)
        start = machine.core_times()
        result = benchmark(setting)
        end = machine.core_times()
        others = machine.others_share(start, end, psutil.cpu_count())
        results[name] = Measured(result, end.wall_s - start.wall_s, others)
        on_step(f"  {results[name].duration_s:.0f} s")
        report.write(output, described, results, quick=setting.quick)
        for figure in result.figures:
            plots.draw(figure, output)
    return results
