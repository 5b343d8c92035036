"""The whole export: weights to networks to graphs to a checked repository."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sam_refine.contract import SAM_IMAGE_ENCODER, SAM_MASK_DECODER
from sam_refine_export import weights
from sam_refine_export.errors import ExportError
from sam_refine_export.model_card import (
    ModelCard,
    Source,
    matches,
    read_card,
    sha256,
)
from sam_refine_export.repository import (
    DECODER_ONNX,
    ENCODER_ONNX,
    files,
    new_repository,
    recipe_sha256,
)

if TYPE_CHECKING:
    from sam_refine_export.networks import SamNetworks

MOBILE: Final = "mobile"
MODELS: Final = (MOBILE, "vit_b", "vit_l", "vit_h")
"""MobileSAM, whose weights are fetched, and SAM's own sizes, whose checkpoints the user has."""

_DISTRIBUTIONS: Final = (
    "sam-refine",
    "segment-anything",
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
)

OnStep = Callable[[str], None]
"""Told what happens next, in a few words."""


def export_repository(
    output: Path,
    model: str = MOBILE,
    checkpoint: Path | None = None,
    on_step: OnStep = lambda step: None,
) -> ModelCard:
    """Export a model's image encoder and mask decoder into a repository that Triton can serve.

    `checkpoint` is None for `mobile`, a file for all others. `output` appears whole and checked, or
    not at all; an earlier export there is replaced.

    Raises `ExportError` where the arguments, the weights or the directory are not fit for it, or
    where a graph does not compute what PyTorch computes.
    """
    _require_fitting(model, checkpoint)
    # torch takes a second to import: not before it is needed
    from sam_refine_export.image_encoder import ImageEncoder
    from sam_refine_export.mask_decoder import MaskDecoder
    from sam_refine_export.onnx_graph import OPSET, export_graph
    from sam_refine_export.validate import validate

    try:
        with new_repository(output.resolve()) as repository:
            encoder_onnx, decoder_onnx = repository / ENCODER_ONNX, repository / DECODER_ONNX
            on_step("load the weights")
            networks = _load_networks(model, checkpoint)
            on_step("export the image encoder")
            export_graph(ImageEncoder(networks.image_encoder), SAM_IMAGE_ENCODER, encoder_onnx)
            on_step("export the mask decoder")
            decoder = MaskDecoder(networks.prompt_encoder, networks.mask_decoder)
            export_graph(decoder, SAM_MASK_DECODER, decoder_onnx)
            on_step("compare both with PyTorch")
            report = validate(networks, encoder_onnx, decoder_onnx)
            if report.mismatches:
                raise ExportError("the exported graphs are wrong: " + "; ".join(report.mismatches))
            card = ModelCard(
                model=model,
                source=_source(checkpoint),
                precision="fp32",
                opset=OPSET,
                versions={name: version(name) for name in _DISTRIBUTIONS},
                recipe_sha256=recipe_sha256(),
                files=files(repository),
                validation=report.to_json(),
            )
            card.write(repository)
    except OSError as error:
        raise ExportError(f"the export to {output} failed: {error}") from error
    return card


def is_current(output: Path, model: str = MOBILE, checkpoint: Path | None = None) -> bool:
    """Whether `output` holds what `export_repository` would write there now, unchanged since.

    Takes well under a second, plus what it takes to read the checkpoint.
    """
    _require_fitting(model, checkpoint)
    card = read_card(output)
    return (
        card is not None
        and card.model == model
        and card.recipe_sha256 == recipe_sha256()
        and card.source == _source(checkpoint)
        and matches(card, output)
    )


def _require_fitting(model: str, checkpoint: Path | None) -> None:
    if model not in MODELS:
        raise ExportError(f"model must be one of {', '.join(MODELS)}, got {model!r}")
    if model == MOBILE and checkpoint is not None:
        raise ExportError(f"model {MOBILE} fetches its weights and takes no checkpoint")
    if model != MOBILE and checkpoint is None:
        raise ExportError(f"model {model} needs a checkpoint file")
    if checkpoint is not None and not checkpoint.is_file():
        raise ExportError(f"the checkpoint {checkpoint} is not a file")


def _load_networks(model: str, checkpoint: Path | None) -> SamNetworks:
    from sam_refine_export.checkpoint import load_checkpoint
    from sam_refine_export.mobile_sam import load_mobile_sam

    if checkpoint is None:
        return load_mobile_sam(*weights.mobile_sam_files())
    return load_checkpoint(model, checkpoint)


def _source(checkpoint: Path | None) -> Source:
    if checkpoint is None:
        return weights.SOURCE
    return Source(checkpoint.name, None, {checkpoint.name: sha256(checkpoint)})
