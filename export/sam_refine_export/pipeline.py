"""The whole export: weights to networks to graphs to a checked repository."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sam_refine_export.downloads.npm import GraphFiles, fetch_graphs
from sam_refine_export.errors import ExportError
from sam_refine_export.options import ExportOptions, require_unicode
from sam_refine_export.repository.inspection import inspect_repository
from sam_refine_export.repository.model_card import ModelCard
from sam_refine_export.repository.recipe import recipe_sha256
from sam_refine_export.repository.repository import (
    DECODER_ONNX,
    ENCODER_ONNX,
    finished,
    new_repository,
)
from sam_refine_export.repository.source import source_of
from sam_refine_export.repository.triton_config import fit_configs
from sam_refine_export.variants import Model, load_checkpoint

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
"""Part of what torch and ONNX Runtime say when memory runs out."""

OnStep = Callable[[str], None]
"""Is told what happens next, in a few words."""


def export_repository(
    output: Path,
    options: ExportOptions | None = None,
    on_step: OnStep = lambda step: None,
    *,
    replace: bool = False,
) -> ModelCard:
    """Export a model's image encoder and mask decoder into a repository that Triton can serve.

    No options mean MobileSAM, a checkpoint without a model the one that it is of. `output` appears
    whole and checked, or not at all; an earlier export there is replaced, but one that was changed
    since only if `replace` says so.

    Raises `ExportError` where the weights or the directory cannot be used, where memory runs out,
    or where a graph does not compute what PyTorch computes.
    """
    options = options or ExportOptions()
    # torch takes a second to import: not before it is needed
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    from sam_refine_export.graphs.make_graphs import make_graphs
    from sam_refine_export.graphs.onnx_graph import OPSET
    from sam_refine_export.validation.validate import validate

    try:
        with new_repository(_resolved(output), replace=replace) as repository:
            encoder_onnx, decoder_onnx = repository / ENCODER_ONNX, repository / DECODER_ONNX
            on_step("load the weights")
            source = source_of(options)
            model, networks, published = _load(options)
            if source_of(options) != source:
                raise ExportError(f"{options.checkpoint} changed while it was read")
            half_precision = make_graphs(
                networks, encoder_onnx, decoder_onnx, options.precision, on_step
            )
            on_step("compare both with PyTorch")
            batch_size = options.encoder_max_batch_size(model)
            report = validate(
                networks, encoder_onnx, decoder_onnx, batch_size, options.precision, published
            )
            if report.mismatches:
                raise ExportError("the exported graphs are wrong: " + "; ".join(report.mismatches))
            fit_configs(repository, batch_size, options.device)
            card = ModelCard(
                model=model,
                source=source,
                precision=options.precision,
                device=options.device,
                max_batch_size=batch_size,
                opset=OPSET,
                versions=_versions(),
                recipe_sha256=recipe_sha256(),
                files=finished(repository),
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
        source = source_of(options)
    except (ExportError, OSError):
        return False
    card = inspection.card
    return (
        inspection.matches_card
        and inspection.recipe_is_current
        and card.versions == _versions()
        and options.model in (None, card.model)  # the checksum of a checkpoint tells its model
        and card.precision == options.precision
        and card.device == options.device
        and card.max_batch_size == options.encoder_max_batch_size(card.model)
        and card.source == source
    )


def _versions() -> dict[str, str]:
    """Of the packages that decide how a repository comes out; empty if one is not installed."""
    try:
        return {name: version(name) for name in _DISTRIBUTIONS}
    except PackageNotFoundError:
        return {}


def _resolved(output: Path) -> Path:
    """`output` with its links resolved; raises `ExportError` if graphs cannot be written there."""
    require_unicode(output)
    try:
        return output.resolve()
    except RuntimeError as error:  # what Python 3.11 makes of a loop of links
        raise ExportError(f"{output} cannot be reached: {error}") from error


def _load(options: ExportOptions) -> tuple[Model, SamNetworks, GraphFiles | None]:
    """Model and networks, and the published graphs if their parameters are from there."""
    if options.checkpoint is not None:
        return *load_checkpoint(options.model, options.checkpoint), None
    assert options.model is not None  # `ExportOptions` sees to it
    graphs = options.model.variant.graphs
    assert graphs is not None  # or `ExportOptions` would have asked for a checkpoint
    files = fetch_graphs(graphs)
    return options.model, graphs.load(*files), files
