"""Checks of exported graphs: against the contract, PyTorch's values and published graphs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
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
    MaskChoice,
    ModelSpec,
)
from sam_refine_export.graphs.half_precision import session_with_real_rounding
from sam_refine_export.graphs.onnx_graph import parameter_to_input, shape_with_batch
from sam_refine_export.graphs.samples import DECODER_CASES, DecoderCase, canvases
from sam_refine_export.networks.sam_networks import SamNetworks
from sam_refine_export.options import Precision
from sam_refine_export.validation import published_graphs, reference
from sam_refine_export.validation.cases import CHOICE_CASE, KEPT_CASE, KEPT_SIZE, RANKINGS
from sam_refine_export.validation.validation_report import ValidationReport, ValueCheck

Array: TypeAlias = npt.NDArray[Any]

PYTORCH: Final = "PyTorch"
PUBLISHED_ENCODER: Final = "encoder.onnx as published"
PUBLISHED_DECODER: Final = "sam.onnx as published"
"""`ValueCheck.reference`."""


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from its reference: for each measure, the larger of two bounds."""

    absolute: float
    """Of the largest difference."""
    relative: float = 0.0
    """Of the largest difference, as a part of the largest value."""
    rms_absolute: float = 0.0
    """Of the root mean square of the differences."""
    rms_relative: float = 0.0
    """The same, as a part of the root mean square of the values."""

    def of(self, expected: Array) -> float:
        """The largest absolute difference that is allowed."""
        return max(self.absolute, self.relative * float(np.abs(expected).max(initial=0.0)))

    def rms_of(self, expected: Array) -> float:
        """The largest root mean square of the differences that is allowed."""
        return max(self.rms_absolute, self.rms_relative * _rms(expected))


TOLERANCES: Final[Mapping[Precision, Mapping[str, Tolerance]]] = {
    Precision.FP32: {
        "image_embedding": Tolerance(1e-3, rms_relative=3e-5),
        "low_res_logits": Tolerance(1e-3, rms_relative=3e-5),
        "iou_predictions": Tolerance(1e-4, rms_absolute=2e-5, rms_relative=2e-5),
    },
    Precision.FP16: {
        "image_embedding": Tolerance(0.0, relative=2e-2, rms_relative=4e-3),
        "low_res_logits": Tolerance(0.0, relative=2e-2, rms_relative=1e-2),
        "iou_predictions": Tolerance(1e-2, relative=1e-2, rms_absolute=5e-3, rms_relative=1e-2),
    },
}
"""By output. Sums of float32 in another order differ by up to 5e-4 in logits, which reach 100 and
of which only a sigmoid and a sign are used; embeddings are of the order of 1; a predicted IoU is
compared with thresholds of two decimals. In float16 errors grow with the values.

A wrong parameter shifts many values by a little rather than one by much, so the root mean square is
held to less. It was, as a part of that of the values:

|                        | float32 |        |               | float16 |        |               |
|                        | embed.  | logits | IoUs          | embed.  | logits | IoUs          |
| MobileSAM              | 8e-7    | 1.0e-6 | 7e-7          | 0.12 %  | 0.26 % | 0.11 %        |
| a vit_b, random        | 9e-7    | 1.0e-6 | 9e-7          | 0.10 %  | 0.17 % | 0.08 %        |
| a small SAM, random    | 6e-7    | 5.1e-6 | 4e-5 (3.7e-6) | 0.08 %  | 0.49 % | 2.4 % (0.002) |

(in brackets: the same as such, of a predicted IoU that was near zero). MobileSAM's largest
differences in float16 were 0.2 % of the largest value in embeddings, 0.6 % in logits, 1.7e-3 in
predicted IoUs. One weight tensor 5 % too large was found in float16 for 18 of 21 of its encoder's
tensors, by the largest difference alone for 7.
"""


def validate(
    networks: SamNetworks,
    encoder_onnx: Path,
    decoder_onnx: Path,
    max_batch_size: int,
    precision: Precision = Precision.FP32,
    published: tuple[Path, Path] | None = None,
) -> ValidationReport:
    """Hold both graphs against the contract and against `networks` in PyTorch, in float32.

    The encoder runs at batch 1, 3 and `max_batch_size`, as far as that allows. `published` are
    MobileSAM's `encoder.onnx` and `sam.onnx`, if the graphs should compute the same as those.

    Raises `ExportError` where the decoder has no bias of predicted IoUs.
    """
    interface = (
        *check_interface(encoder_onnx, SAM_IMAGE_ENCODER),
        *check_interface(decoder_onnx, SAM_MASK_DECODER),
    )
    if interface:
        return ValidationReport(interface, ())
    open_session = session_with_real_rounding if precision is Precision.FP16 else _session
    tolerances = TOLERANCES[precision]
    batch_sizes = sorted({1, min(3, max_batch_size), max_batch_size})
    canvas, canvas_size = (tensor[: batch_sizes[-1]] for tensor in canvases())
    embeddings = {PYTORCH: reference.encode(networks.image_encoder, canvas, canvas_size)}
    if published:
        embeddings[PUBLISHED_ENCODER] = published_graphs.encode(published[0], canvas, canvas_size)
    session = open_session(encoder_onnx)
    encoder_checks = check_image_encoder(
        session, canvas, canvas_size, embeddings, batch_sizes, tolerances
    )
    values = list(encoder_checks)
    del session  # some gigabytes, for a large model
    session = open_session(decoder_onnx)
    embedding = embeddings[PYTORCH][:1]
    values += check_mask_decoder(session, networks, embedding, tolerances)
    if published:
        values += check_published_decoder(session, published[1], embedding, tolerances)
    values += check_kept_masks(session, networks, embedding, tolerances)
    values += check_mask_choice(decoder_onnx, networks, embedding, tolerances, open_session)
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
    embeddings: Mapping[str, Tensor],
    batch_sizes: Iterable[int],
    tolerances: Mapping[str, Tolerance],
) -> Iterator[ValueCheck]:
    """The graph at several batch sizes against each reference's embeddings of the same canvases.

    A batch larger than the number of canvases repeats them.
    """
    for batch_size in batch_sizes:
        rows = torch.arange(batch_size) % len(canvas)
        feeds = {"canvas": canvas[rows].numpy(), "canvas_size": canvas_size[rows].numpy()}
        (found,) = session.run(list(SAM_IMAGE_ENCODER.output_names), feeds)
        for name, expected in embeddings.items():
            yield from _compare(
                SAM_IMAGE_ENCODER,
                name,
                f"batch {batch_size}",
                [found],
                [expected[rows].numpy()],
                tolerances,
            )


def check_mask_decoder(
    session: InferenceSession,
    networks: SamNetworks,
    embedding: Tensor,
    tolerances: Mapping[str, Tolerance],
    cases: Iterable[DecoderCase] = DECODER_CASES,
) -> Iterator[ValueCheck]:
    """The graph against PyTorch on an image embedding (1, 256, 64, 64).

    Where the predicted IoUs of several masks of a prompt are equal within the tolerance, any of
    these masks is right.
    """
    for case in cases:
        inputs = case.inputs(embedding)
        masks, ious = (tensor.numpy() for tensor in reference.decode(networks, **inputs))
        found = _decode(session, inputs)
        if case.choice is not MaskChoice.ALL:
            best = ious.max(axis=1, keepdims=True)
            is_best = ious > best - tolerances["iou_predictions"].of(best)
            masks, ious = _nearest(found[0], masks, is_best), best
        yield from _compare(SAM_MASK_DECODER, PYTORCH, str(case), found, [masks, ious], tolerances)


def check_published_decoder(
    session: InferenceSession,
    sam_onnx: Path,
    embedding: Tensor,
    tolerances: Mapping[str, Tolerance],
    cases: Iterable[DecoderCase] = DECODER_CASES,
) -> Iterator[ValueCheck]:
    """The graph against MobileSAM's `sam.onnx`, in the cases that this decodes.

    In those cases the best of three masks leads by more than any tolerance of predicted IoUs.
    """
    published = _session(sam_onnx)
    for case in filter(published_graphs.decodes, cases):
        inputs = case.inputs(embedding)
        yield from _compare(
            SAM_MASK_DECODER,
            PUBLISHED_DECODER,
            str(case),
            _decode(session, inputs),
            published_graphs.decode(published, inputs),
            tolerances,
        )


def check_kept_masks(
    session: InferenceSession,
    networks: SamNetworks,
    embedding: Tensor,
    tolerances: Mapping[str, Tolerance],
) -> Iterator[ValueCheck]:
    """Which masks the graph returns, and how much of each: the threshold lies amid their IoUs."""
    inputs = KEPT_CASE.inputs(embedding)
    masks, ious = (t.numpy() for t in reference.choose(*reference.decode(networks, **inputs)))
    ranked = np.sort(ious[:, 0])
    widest = np.argmax(np.diff(ranked))  # where no tolerance decides
    threshold = ranked[widest : widest + 2].mean()
    inputs["iou_threshold"] = torch.tensor([threshold], dtype=torch.float32)
    height, width = KEPT_SIZE
    inputs["low_res_size"] = torch.tensor(KEPT_SIZE)
    yield from _compare(
        SAM_MASK_DECODER,
        PYTORCH,
        f"{KEPT_CASE}, {height} x {width} of those with a predicted IoU above {threshold:.3f}",
        _decode(session, inputs),
        [masks[ious[:, 0] > threshold, :, :height, :width], ious],
        tolerances,
    )


def check_mask_choice(
    decoder_onnx: Path,
    networks: SamNetworks,
    embedding: Tensor,
    tolerances: Mapping[str, Tolerance],
    open_session: Callable[[Path], InferenceSession],
) -> Iterator[ValueCheck]:
    """Which of SAM's four masks the graph returns, with predicted IoUs in each of `RANKINGS`.

    Whether a wrong choice shows on given prompts depends on the checkpoint: if mask 0 never has the
    best predicted IoU, the best of four masks is the best of masks 1 to 3. So the bias of the
    predicted IoUs becomes an input of the graph, (N, 4), and brings the masks of each prompt into
    another order. Raises `ExportError` where the graph has no such bias.
    """
    last = len(networks.mask_decoder.iou_prediction_head.layers) - 1
    bias_name = f"chooser.iou_head.layers.{last}.bias"
    with tempfile.TemporaryDirectory() as scratch:
        ranking_onnx = Path(scratch) / "model.onnx"
        bias = parameter_to_input(decoder_onnx, ranking_onnx, bias_name, ("N", len(RANKINGS[0])))
        session = open_session(ranking_onnx)
    inputs = replace(CHOICE_CASE, choice=MaskChoice.ALL).inputs(embedding)
    masks, ious = (tensor.numpy() for tensor in reference.decode(networks, **inputs))
    step = 1 + ious.max() - ious.min()  # by which any mask overtakes any other
    offset = step * (len(RANKINGS[0]) - 1 - np.argsort(RANKINGS, axis=1))
    ranked = (ious + offset).astype(np.float32)
    ranking_bias = torch.from_numpy((bias + offset).astype(bias.dtype))
    row = np.arange(len(ranked))[:, None]
    for choice, chosen in (
        (MaskChoice.SINGLE, np.zeros_like(row)),
        (MaskChoice.BEST_OF_THREE, 1 + ranked[:, 1:].argmax(axis=1)[:, None]),
        (MaskChoice.ALL, np.arange(ranked.shape[1])),
    ):
        case = replace(CHOICE_CASE, choice=choice)
        yield from _compare(
            SAM_MASK_DECODER,
            PYTORCH,
            f"{case}, predicted IoUs ranked anew",
            _decode(session, case.inputs(embedding) | {bias_name: ranking_bias}),
            [masks[row, chosen], ranked[row, chosen]],
            tolerances,
        )


def _decode(session: InferenceSession, inputs: Mapping[str, Tensor]) -> list[Array]:
    """The decoder's outputs in the contract's order."""
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    outputs: list[Array] = session.run(list(SAM_MASK_DECODER.output_names), feeds)
    return outputs


def _nearest(found: Array, masks: Array, is_allowed: Array) -> Array:
    """For each prompt the allowed mask nearest to `found`, (N, 1, 256, 256).

    `masks` are (N, M, 256, 256), `is_allowed` (N, M).
    """
    if found.shape != masks[:, :1].shape:
        return masks[:, :1]
    differences = np.abs(found - masks).max(axis=(2, 3))
    nearest = np.where(is_allowed, differences, np.inf).argmin(axis=1)
    chosen: Array = masks[np.arange(len(masks)), nearest][:, None]
    return chosen


def _session(onnx_path: Path) -> InferenceSession:
    return InferenceSession(onnx_path, providers=["CPUExecutionProvider"])


def _compare(
    spec: ModelSpec,
    reference: str,
    case: str,
    found: Iterable[Array],
    expected: Iterable[Array],
    tolerances: Mapping[str, Tolerance],
) -> Iterator[ValueCheck]:
    """One check for each output of a model."""
    for name, value, right in zip(spec.output_names, found, expected, strict=True):
        max_difference, rms_difference = differences(value, right)
        tolerance = tolerances[name]
        yield ValueCheck(
            model=spec.name,
            output=name,
            reference=reference,
            case=case,
            max_difference=max_difference,
            tolerance=tolerance.of(right),
            rms_difference=rms_difference,
            rms_tolerance=tolerance.rms_of(right),
        )


def differences(found: Array, expected: Array) -> tuple[float, float]:
    """Largest absolute difference, and the root mean square of all.

    Both are infinite where shapes differ or a value is not finite.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        return math.inf, math.inf
    difference = np.abs(found - expected)
    return float(difference.max(initial=0.0)), _rms(difference)


def _rms(values: Array) -> float:
    """Root mean square; 0 where there are no values."""
    return math.sqrt(np.square(values, dtype=np.float64).mean()) if values.size else 0.0
