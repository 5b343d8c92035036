"""What a session says of itself, and what the page on GPUs says of the graphs."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest

from sam_refine_benchmarks.gpu.placement import PlacementError, placement, read
from sam_refine_export.graphs import bounds
from support.tiny_models import batch_size_network

ROOT = Path(__file__).parents[4]
LOG = """
[I:onnxruntime:, fallback_cpu_capability.cc:167 GetCpuPreferredNodes] ORT optimization- Force \
fallback to CPU execution for node: node_Concat_55 because the CPU execution path is deemed faster
[I:onnxruntime:, transformer_memcpy.cc:393 AddCopyNode] Add MemcpyToHost before a/shape for CUDA
[V:onnxruntime:, session_state.cc:1584 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on \
[CUDAExecutionProvider]. Number of nodes: 2
[V:onnxruntime:, session_state.cc:1586 VerifyEachNodeIsAssignedToAnEp]   MatMul (node_matmul_3)
[V:onnxruntime:, session_state.cc:1586 VerifyEachNodeIsAssignedToAnEp]   MemcpyToHost (Memcpy)
[V:onnxruntime:, session_state.cc:1584 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on \
[CPUExecutionProvider]. Number of nodes: 2
[V:onnxruntime:, session_state.cc:1586 VerifyEachNodeIsAssignedToAnEp]   Concat (node_Concat_55)
[V:onnxruntime:, session_state.cc:1586 VerifyEachNodeIsAssignedToAnEp]   Unique ()
""".strip().splitlines()
ALL_ON_GPU = """
[V:onnxruntime:, session_state.cc:1581 VerifyEachNodeIsAssignedToAnEp]  All nodes placed on \
[CUDAExecutionProvider]. Number of nodes: 369
""".splitlines()


def test_nodes_copies_and_missing_kernels_are_read():
    found = read(LOG)
    assert (found.on_gpu, found.on_host) == (2, Counter({"Concat": 1, "Unique": 1}))
    assert found.without_kernel == 1  # Unique; Concat was sent back
    assert found.copies == [("MemcpyToHost", "a/shape")]


def test_graph_that_is_wholly_on_the_gpu():
    found = read(ALL_ON_GPU)
    assert (found.on_gpu, found.on_host.total(), found.without_kernel) == (369, 0, 0)


def test_interpreter_without_onnxruntime_gpu_is_an_error(tmp_path):
    """This environment's own onnxruntime has no CUDA."""
    onnx.save(batch_size_network(), tmp_path / "model.onnx")
    with pytest.raises(PlacementError, match="nothing was placed on CUDAExecutionProvider"):
        placement(tmp_path / "model.onnx", Path(sys.executable))


@pytest.mark.parametrize(
    ("graph", "rules"), [("encoder", bounds.ENCODER_BOUNDS), ("decoder", bounds.DECODER_BOUNDS)]
)
def test_page_has_the_copies_that_bounds_cost(graph, rules):
    page = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {graph}, fp32 |")]
    of_values = [rule for rule in rules if not bounds.is_of_sizes(rule)]
    sizes_of_others = [rule for rule in rules if isinstance(rule, bounds.Index)]
    stages = 2
    assert int(row.split("|")[-2]) == len(of_values) + len(sizes_of_others) + stages
