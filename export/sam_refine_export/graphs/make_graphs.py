"""SAM's networks to the two ONNX graphs that Triton serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sam_refine.contract.tensors import SAM_IMAGE_ENCODER, SAM_MASK_DECODER
from sam_refine_export.graphs.bounds import DECODER_BOUNDS, ENCODER_BOUNDS, add_bounds
from sam_refine_export.graphs.half_precision import convert, measure_ranges
from sam_refine_export.graphs.image_encoder import ImageEncoder
from sam_refine_export.graphs.mask_decoder import MaskDecoder
from sam_refine_export.graphs.onnx_graph import export_graph
from sam_refine_export.graphs.samples import decoder_feeds, embed, encoder_feeds
from sam_refine_export.networks.sam_networks import SamNetworks
from sam_refine_export.options import Precision


def make_graphs(
    networks: SamNetworks,
    encoder_onnx: Path,
    decoder_onnx: Path,
    precision: Precision,
    on_step: Callable[[str], None],
) -> dict[str, Any] | None:
    """Write image encoder and mask decoder to the two paths; `networks` are left as they are.

    Returns `HalfPrecision.to_json` by model for float16, else None. `on_step` is told what happens
    next.
    """
    on_step("export the image encoder")
    export_graph(ImageEncoder(networks.image_encoder), SAM_IMAGE_ENCODER, encoder_onnx)
    on_step("export the mask decoder")
    decoder = MaskDecoder(networks.prompt_encoder, networks.mask_decoder)
    export_graph(decoder, SAM_MASK_DECODER, decoder_onnx)
    half = None
    if precision is not Precision.FP32:
        on_step("convert both to float16")
        half = _convert_to_half(encoder_onnx, decoder_onnx)
    add_bounds(encoder_onnx, ENCODER_BOUNDS)
    add_bounds(decoder_onnx, DECODER_BOUNDS)
    return half


def _convert_to_half(encoder_onnx: Path, decoder_onnx: Path) -> dict[str, Any]:
    """Both graphs in float16 where their values on the samples allow it; what came of it."""
    embedding = embed(encoder_onnx)
    report = {}
    for spec, path, feeds in (
        (SAM_IMAGE_ENCODER, encoder_onnx, encoder_feeds()),
        (SAM_MASK_DECODER, decoder_onnx, decoder_feeds(embedding)),
    ):
        report[spec.name] = convert(path, path, measure_ranges(path, feeds)).to_json()
    return report
