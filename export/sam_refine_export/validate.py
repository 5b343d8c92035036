"""What an exported graph is held to: the contract's names, dtypes and shapes, PyTorch's values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor

from sam_refine.contract import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    MASK_SIDE,
    MODEL_SIDE,
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    MaskPrompt,
    ModelSpec,
)
from sam_refine_export import reference
from sam_refine_export.networks import SamNetworks
from sam_refine_export.onnx_graph import shape_with_batch

TOLERANCES: Final = {"image_embedding": 1e-3, "low_res_logits": 1e-3, "iou_predictions": 1e-4}
"""Largest absolute difference from PyTorch, by output. Sums of float32 in another order differ by
up to 5e-4 in logits, which reach 100 and of which only a sigmoid and a sign are used; embeddings
are of the order of 1; a predicted IoU is compared with thresholds of two decimals."""


@dataclass(frozen=True)
class ValueCheck:
    """One output of one run against its reference."""

    model: str
    output: str
    case: str
    max_difference: float
    """Infinite where the output has another shape or is not finite."""
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.max_difference < self.tolerance


@dataclass(frozen=True)
class ValidationReport:
    """All that was found."""

    interface: tuple[str, ...]
    """One sentence for each mismatch with the contract."""
    values: tuple[ValueCheck, ...]
    """Empty where the interface is wrong: then no values are looked at."""

    @property
    def mismatches(self) -> tuple[str, ...]:
        """One sentence for each thing that is wrong; none if the export passed."""
        return self.interface + tuple(
            f"{check.model}: {check.output} differs by up to {check.max_difference:.2g} from "
            f"PyTorch, allowed is {check.tolerance:g} ({check.case})"
            for check in self.values
            if not check.passed
        )

    @property
    def max_differences(self) -> dict[str, float]:
        """The largest difference of each output over all runs."""
        largest: dict[str, float] = {}
        for check in self.values:
            largest[check.output] = max(largest.get(check.output, 0.0), check.max_difference)
        return largest

    def to_json(self) -> dict[str, Any]:
        """As plain lists and mappings."""
        return {
            "interface": list(self.interface),
            "values": [asdict(check) for check in self.values],
        }


def validate(networks: SamNetworks, encoder_onnx: Path, decoder_onnx: Path) -> ValidationReport:
    """Hold both graphs against the contract and against `networks` in PyTorch."""
    interface = (
        *check_interface(encoder_onnx, SAM_IMAGE_ENCODER),
        *check_interface(decoder_onnx, SAM_MASK_DECODER),
    )
    if interface:
        return ValidationReport(interface, ())
    canvas, canvas_size = _canvases()
    embeddings = reference.encode(networks.image_encoder, canvas, canvas_size)
    return ValidationReport(
        interface=(),
        values=(
            *check_image_encoder(encoder_onnx, canvas, canvas_size, embeddings),
            *check_mask_decoder(decoder_onnx, networks, embeddings[:1]),
        ),
    )


def check_interface(path: Path, spec: ModelSpec) -> list[str]:
    """Names in order, dtypes, fixed sizes and free axes: one sentence for each mismatch."""
    graph = onnx.load(path, load_external_data=False).graph
    mismatches = []
    for kind, tensors, values in (
        ("inputs", spec.inputs, graph.input),
        ("outputs", spec.outputs, graph.output),
    ):
        names = [tensor.name for tensor in tensors]
        found_names = [value.name for value in values]
        if found_names != names:
            mismatches.append(f"{spec.name}: {kind} are {found_names}, expected {names}")
            continue
        for tensor, value in zip(tensors, values, strict=True):
            found_dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            if found_dtype != tensor.dtype:
                mismatches.append(
                    f"{spec.name}: {tensor.name} is {found_dtype}, expected {tensor.dtype}"
                )
            dims = value.type.tensor_type.shape.dim
            found_shape = tuple(dim.dim_param or dim.dim_value for dim in dims)
            if found_shape != shape_with_batch(tensor, spec):
                mismatches.append(
                    f"{spec.name}: {tensor.name} has the shape {found_shape}, "
                    f"expected {shape_with_batch(tensor, spec)}"
                )
    return mismatches


def check_image_encoder(
    path: Path, canvas: Tensor, canvas_size: Tensor, embeddings: Tensor
) -> Iterator[ValueCheck]:
    """The graph at batch 1 and at the full batch against the reference's embeddings."""
    session = _session(path)
    for batch in (1, len(canvas)):
        inputs = {"canvas": canvas[:batch], "canvas_size": canvas_size[:batch]}
        case = f"batch {batch}"
        yield from _compare(session, SAM_IMAGE_ENCODER, case, inputs, [embeddings[:batch]])


def check_mask_decoder(
    path: Path, networks: SamNetworks, embedding: Tensor
) -> Iterator[ValueCheck]:
    """The graph against the reference: cases that cover every N, P, K, mode and mask choice."""
    session = _session(path)
    for case in DECODER_CASES:
        inputs = case.inputs(embedding)
        expected = reference.decode(networks, **inputs)
        yield from _compare(session, SAM_MASK_DECODER, str(case), inputs, expected)


@dataclass(frozen=True)
class DecoderCase:
    """Random prompts of one kind."""

    prompts: int
    points: int
    has_box: bool
    mask_prompts: int
    mask_prompt: MaskPrompt
    multimask_output: bool

    def __str__(self) -> str:
        return (
            f"N = {self.prompts}, P = {self.points + 2 * self.has_box}, K = {self.mask_prompts}, "
            f"mask prompt {self.mask_prompt.value}, "
            f"{'best of three masks' if self.multimask_output else 'single mask'}"
        )

    def inputs(self, embedding: Tensor) -> dict[str, Tensor]:
        """The decoder's inputs by name; the same ones every time."""
        random = torch.Generator().manual_seed(0)
        n, k = self.prompts, self.mask_prompts
        coords = torch.rand(n, self.points, 2, generator=random) * MODEL_SIDE
        labels = torch.randint(-1, 2, (n, self.points), generator=random).float()
        if self.has_box:
            corners = torch.rand(n, 2, 2, generator=random).sort(dim=1).values * MODEL_SIDE
            coords = torch.cat([coords, corners], dim=1)
            corner_labels = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]).expand(n, 2)
            labels = torch.cat([labels, corner_labels.float()], dim=1)
        return {
            "image_embedding": embedding,
            "point_coords": coords,
            "point_labels": labels,
            "mask_prompts": torch.randn(k, 1, MASK_SIDE, MASK_SIDE, generator=random),
            "mask_index": torch.randint(0, k, (n,), generator=random),
            "mask_prompt_mode": torch.tensor([self.mask_prompt.mode]),
            "multimask_output": torch.tensor([self.multimask_output]),
        }


DECODER_CASES: Final = (
    DecoderCase(1, 1, False, 1, MaskPrompt.NONE, multimask_output=False),
    DecoderCase(1, 1, True, 2, MaskPrompt.SAM, multimask_output=True),
    DecoderCase(7, 1, True, 3, MaskPrompt.TRIDENT, multimask_output=False),
    DecoderCase(7, 2, True, 1, MaskPrompt.TRIDENT, multimask_output=True),
    DecoderCase(32, 0, True, 2, MaskPrompt.SAM, multimask_output=False),
)


def _canvases() -> tuple[Tensor, Tensor]:
    """Three images of coloured blocks, each of another shape, on canvases full of noise."""
    random = torch.Generator().manual_seed(0)
    sides = (MODEL_SIDE, MODEL_SIDE, 3)
    canvas = torch.randint(0, 256, (3, *sides), generator=random, dtype=torch.uint8)
    canvas_size = torch.tensor([[683, 1024], [1024, 700], [1024, 1024]])
    for pixels, (height, width) in zip(canvas, canvas_size.tolist(), strict=True):
        blocks = torch.randint(0, 256, (16, 16, 3), generator=random, dtype=torch.uint8)
        image = blocks.repeat_interleave(64, dim=0).repeat_interleave(64, dim=1)
        pixels[:height, :width] = image[:height, :width]
    return canvas, canvas_size


def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _compare(
    session: onnxruntime.InferenceSession,
    spec: ModelSpec,
    case: str,
    inputs: dict[str, Tensor],
    expected: list[Tensor] | tuple[Tensor, ...],
) -> Iterator[ValueCheck]:
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    outputs = session.run(list(spec.output_names), feeds)
    for name, found, wanted in zip(spec.output_names, outputs, expected, strict=True):
        difference = max_difference(found, wanted.numpy())
        yield ValueCheck(spec.name, name, case, difference, TOLERANCES[name])


def max_difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Largest absolute difference; infinite where shapes differ or a value is not finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max(initial=0.0))
