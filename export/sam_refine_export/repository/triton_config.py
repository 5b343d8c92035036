"""`config.pbtxt` of an exported graph: the template's, fitted to what was exported."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from sam_refine.contract.tensors import SAM_IMAGE_ENCODER, SAM_MASK_DECODER, ModelSpec
from sam_refine_export.options import Device

_NETWORKS: Final = re.compile(r'("networks_sha256" value \{ string_value: )"\w*"')
_KINDS: Final = {Device.CPU: "KIND_CPU", Device.GPU: "KIND_GPU"}
"""Triton's names; for `Device.AUTO` there is none, and Triton chooses."""


def fit_configs(repository: Path, max_batch_size: int, device: Device) -> None:
    """Fit the configs of both graphs in a copy of the template."""
    for spec in (SAM_IMAGE_ENCODER, SAM_MASK_DECODER):
        config = repository / spec.name / "config.pbtxt"
        text = config.read_text(encoding="utf-8")
        config.write_text(fitted(text, spec, max_batch_size, device), encoding="utf-8")


def fitted(config: str, spec: ModelSpec, max_batch_size: int, device: Device) -> str:
    """A template's text with batch size, instance kind and warm-up of this export.

    `max_batch_size` only matters for batched models. On a GPU the largest batch is warmed up too,
    as ONNX Runtime searches for the fastest convolutions again for each shape that it sees.
    """
    batch_sizes = [1]
    if spec.batched:
        config = _replace(config, r"^max_batch_size: \d+$", f"max_batch_size: {max_batch_size}")
        if device is Device.GPU and max_batch_size > 1:
            batch_sizes.append(max_batch_size)
    if device in _KINDS:
        config = _replace(config, r"^  \{ count: 1 ", f"  {{ count: 1 kind: {_KINDS[device]} ")
    samples = ",\n".join(_warm_up(spec, batch_size) for batch_size in batch_sizes)
    return (
        f"{config.rstrip()}\n\n"
        "# So that the first caller does not wait for what a runtime does only once.\n"
        f"model_warmup [\n{samples}\n]\n"
    )


def name_networks(config: Path, files: Mapping[str, str]) -> None:
    """Write one checksum of all graphs of a repository into the config of its `sam_refine`.

    `files` has the sha256 of each of its files by path, the graphs' own files of parameters too. A
    config of an export that had no place for it stays as it is.
    """
    graphs = {path: checksum for path, checksum in files.items() if "/model.onnx" in path}
    checksum = sha256(json.dumps(graphs, sort_keys=True).encode()).hexdigest()
    text = config.read_text(encoding="utf-8")
    config.write_text(_NETWORKS.sub(rf'\g<1>"{checksum}"', text), encoding="utf-8")


def _replace(config: str, line: str, replacement: str) -> str:
    replaced, count = re.subn(line, replacement, config, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"the template of a config.pbtxt has {count} lines that match {line}")
    return replaced


def _warm_up(spec: ModelSpec, batch_size: int) -> str:
    """One request full of zeros; free sizes are 1."""
    inputs = "\n".join(
        f'    inputs {{ key: "{tensor.name}" value {{ data_type: TYPE_{tensor.datatype} '
        f"dims: [ {', '.join(str(max(size, 1)) for size in tensor.dims)} ] zero_data: true }} }}"
        for tensor in spec.inputs
    )
    return f'  {{\n    name: "batch of {batch_size}"\n    batch_size: {batch_size}\n{inputs}\n  }}'
