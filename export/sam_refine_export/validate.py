"""What an exported graph is held to: the contract's names, dtypes and shapes, PyTorch's values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime import InferenceSession
from torch import Tensor

from sam_refine.contract import (
    SAM_IMAGE_ENCODER,
    SAM_MASK_DECODER,
    ModelSpec,
)
from sam_refine_export import reference
from sam_refine_export.half_precision import session_with_real_rounding
from sam_refine_export.networks import SamNetworks
from sam_refine_export.onnx_graph import shape_with_batch
from sam_refine_export.options import Precision
from sam_refine_export.samples import DECODER_CASES, DecoderCase, canvases
from sam_refine_export.validation_report import ValidationReport, ValueCheck

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from PyTorch: `absolute`, or `relative` to its largest value."""

    absolute: float
    relative: float = 0.0

    def of(self, expected: Array) -> float:
        """The largest absolute difference that is allowed."""
        return max(self.absolute, self.relative * float(np.abs(expected).max(initial=0.0)))


TOLERANCES: Final[Mapping[Precision, Mapping[str, Tolerance]]] = {
    Precision.FP32: {
        "image_embedding": Tolerance(1e-3),
        "low_res_logits": Tolerance(1e-3),
        "iou_predictions": Tolerance(1e-4),
    },
    Precision.FP16: {
        "image_embedding": Tolerance(0.0, relative=2e-2),
        "low_res_logits": Tolerance(0.0, relative=2e-2),
        "iou_predictions": Tolerance(1e-2, relative=1e-2),
    },
}
"""By output. Sums of float32 in another order differ by up to 5e-4 in logits, which reach 100 and
of which only a sigmoid and a sign are used; embeddings are of the order of 1; a predicted IoU is
compared with thresholds of two decimals. In float16 errors grow with the values: MobileSAM's were
0.3 % of the largest in embeddings, 0.9 % in logits, 1.5e-3 in predicted IoUs."""


def validate(
    networks: SamNetworks,
    encoder_onnx: Path,
    decoder_onnx: Path,
    max_batch_size: int,
    precision: Precision = Precision.FP32,
) -> ValidationReport:
    """Hold both graphs against the contract and against `networks` in PyTorch, in float32.

    The encoder runs at batch 1, 3 and `max_batch_size`, as far as that allows.
    """
    interface = (
        *check_interface(encoder_onnx, SAM_IMAGE_ENCODER),
        *check_interface(decoder_onnx, SAM_MASK_DECODER),
    )
    if interface:
        return ValidationReport(interface, ())
    open_session = session_with_real_rounding if precision is Precision.FP16 else _session
    tolerances = TOLERANCES[precision]
    canvas, canvas_size = canvases()
    embeddings = reference.encode(networks.image_encoder, canvas, canvas_size)
    batch_sizes = sorted({1, min(3, max_batch_size), max_batch_size})
    session = open_session(encoder_onnx)
    encoder_checks = check_image_encoder(
        session, canvas, canvas_size, embeddings, batch_sizes, tolerances
    )
    values = list(encoder_checks)
    del session  # some gigabytes, for a large model
    session = open_session(decoder_onnx)
    values += check_mask_decoder(session, networks, embeddings[:1], tolerances)
    return ValidationReport((), tuple(values))


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
    session: InferenceSession,
    canvas: Tensor,
    canvas_size: Tensor,
    embeddings: Tensor,
    batch_sizes: Iterable[int],
    tolerances: Mapping[str, Tolerance],
) -> Iterator[ValueCheck]:
    """The graph at several batch sizes against the reference's embeddings of the same canvases.

    Larger batches than there are canvases have them over and over.
    """
    for batch_size in batch_sizes:
        rows = torch.arange(batch_size) % len(canvas)
        feeds = {"canvas": canvas[rows].numpy(), "canvas_size": canvas_size[rows].numpy()}
        (found,) = session.run(list(SAM_IMAGE_ENCODER.output_names), feeds)
        yield _compare(
            SAM_IMAGE_ENCODER.name,
            "image_embedding",
            f"batch {batch_size}",
            found,
            embeddings[rows].numpy(),
            tolerances,
        )


def check_mask_decoder(
    session: InferenceSession,
    networks: SamNetworks,
    embedding: Tensor,
    tolerances: Mapping[str, Tolerance],
    cases: Iterable[DecoderCase] = DECODER_CASES,
) -> Iterator[ValueCheck]:
    """The graph against the reference on an image embedding (1, 256, 64, 64).

    Where several masks of a prompt have the same predicted IoU within its tolerance, each of them
    is right.
    """
    for case in cases:
        inputs = case.inputs(embedding)
        masks, ious = (tensor.numpy() for tensor in reference.decode(networks, **inputs))
        feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
        logits, iou = session.run(list(SAM_MASK_DECODER.output_names), feeds)
        best = ious.max(axis=1, keepdims=True)
        expected = _nearest(logits, masks, ious > best - tolerances["iou_predictions"].of(best))
        for name, found, wanted in (
            ("low_res_logits", logits, expected),
            ("iou_predictions", iou, best),
        ):
            yield _compare(SAM_MASK_DECODER.name, name, str(case), found, wanted, tolerances)


def _nearest(found: Array, masks: Array, is_allowed: Array) -> Array:
    """For each prompt the allowed mask nearest to `found`: (N, 1, L, L), (N, M, L, L), (N, M)."""
    if found.shape != masks[:, :1].shape:
        return masks[:, :1]
    differences = np.abs(found - masks).max(axis=(2, 3))
    nearest = np.where(is_allowed, differences, np.inf).argmin(axis=1)
    chosen: Array = masks[np.arange(len(masks)), nearest][:, None]
    return chosen


def _session(onnx_path: Path) -> InferenceSession:
    return InferenceSession(onnx_path, providers=["CPUExecutionProvider"])


def _compare(
    model: str,
    output: str,
    case: str,
    found: Array,
    expected: Array,
    tolerances: Mapping[str, Tolerance],
) -> ValueCheck:
    difference = max_difference(found, expected)
    return ValueCheck(model, output, case, difference, tolerances[output].of(expected))


def max_difference(found: Array, expected: Array) -> float:
    """Largest absolute difference; infinite where shapes differ or a value is not finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max(initial=0.0))
