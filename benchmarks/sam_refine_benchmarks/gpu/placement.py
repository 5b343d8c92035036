"""Where ONNX Runtime would run each node of a graph on an NVIDIA GPU; none is needed for it.

A session decides that before it computes: a node goes to CUDA where onnxruntime-gpu has a kernel of
its opset and types, and back to the host where it only counts sizes. The decision is read from
what a session says of itself at its most talkative.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sam_refine.contract.serving.gpu import CUDA, has_gpu

HOST: Final = "CPUExecutionProvider"
_STAND_IN: Final = Path(__file__).with_name("cuda_stand_in.c")
_SESSION: Final = f"""
import sys
import onnxruntime as ort
ort.preload_dlls()
options = ort.SessionOptions()
options.log_severity_level = 0
ort.InferenceSession(sys.argv[1], options, providers=[{CUDA!r}, {HOST!r}])
"""
_PLACED: Final = re.compile(r"[Nn]odes?(?:\(s\))? placed on \[(\w+)\]\. Number of nodes: (\d+)")
_NODE: Final = re.compile(r"VerifyEachNodeIsAssignedToAnEp\]   (\w+) \((.*)\)$")
_SENT_BACK: Final = re.compile(r"Force fallback to CPU execution for node: (\S*) because")
_COPY: Final = re.compile(r"Add (Memcpy\w+) (?:before|after) (\S+) for")


class PlacementError(Exception):
    """No session said where it would run what."""


@dataclass
class Placement:
    """Where the nodes of one graph run, after ONNX Runtime's own optimizations."""

    on_gpu: int = 0
    """Nodes that run on the GPU, copies included."""
    on_host: Counter[str] = field(default_factory=Counter)
    """Nodes that do not, by operator."""
    without_kernel: int = 0
    """Nodes on the host that were not sent there to count sizes faster: CUDA has no kernel."""
    copies: list[tuple[str, str]] = field(default_factory=list)
    """Copies between host and device within the graph: direction, and the tensor."""


def placement(graph: Path, python: Path) -> Placement:
    """Of an ONNX file, by the onnxruntime-gpu of another interpreter. Raises `PlacementError`."""
    with ExitStack() as stack:
        environment = dict(os.environ)
        if not has_gpu():
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            environment |= _stand_in(directory)
        command = [str(python), "-c", _SESSION, str(graph)]
        said = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
    found = read(said.stderr.splitlines())
    if not found.on_gpu:
        raise PlacementError(f"{graph}: nothing was placed on {CUDA}: {said.stderr[-2000:]}")
    return found


def read(log: Iterable[str]) -> Placement:
    """From the lines of a session at log level 0."""
    found = Placement()
    sent_back: Counter[str] = Counter()
    provider = ""
    for line in log:
        if match := _PLACED.search(line):
            provider = match[1]
            if provider == CUDA:
                found.on_gpu = int(match[2])
        elif provider == HOST and (match := _NODE.search(line)):
            found.on_host[match[1]] += 1
            if sent_back[match[2]] > 0:
                sent_back[match[2]] -= 1
            else:
                found.without_kernel += 1
        elif match := _COPY.search(line):
            found.copies.append((match[1], match[2]))
        elif match := _SENT_BACK.search(line):
            sent_back[match[1]] += 1
    return found


def _stand_in(directory: Path) -> dict[str, str]:
    """Variables with which ONNX Runtime finds a driver that has one imaginary device."""
    library = directory / "libcuda.so.1"
    compiler = ["cc", "-shared", "-fPIC", "-w", "-o", str(library), str(_STAND_IN)]
    try:
        subprocess.run([*compiler, "-Wl,-soname,libcuda.so.1"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PlacementError(f"a C compiler is needed where there is no GPU: {error}") from error
    return {"LD_PRELOAD": str(library), "LD_LIBRARY_PATH": str(directory)}
