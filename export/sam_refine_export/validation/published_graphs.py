"""MobileSAM's published graphs, run as they are: a second reference for its export, after PyTorch.

This package puts together the PyTorch networks behind those graphs, so an export could agree with
them and still differ from MobileSAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from onnxruntime import InferenceSession
from torch import Tensor

from sam_refine.contract import MaskChoice, MaskPromptMode
from sam_refine_export.graphs.samples import DecoderCase
from sam_refine_export.validation import reference

Array: TypeAlias = npt.NDArray[Any]


def encode(encoder_onnx: Path, canvas: Tensor, canvas_size: Tensor) -> Tensor:
    """`reference.encode` with the published `encoder.onnx`."""
    session = InferenceSession(encoder_onnx, providers=["CPUExecutionProvider"])

    def encoder(image: Tensor) -> Tensor:
        (embedding,) = session.run(["output"], {"input": image.numpy()})
        return torch.from_numpy(embedding)

    return reference.encode(encoder, canvas, canvas_size)


def decodes(case: DecoderCase) -> bool:
    """Whether the published `sam.onnx` computes what a case asks for.

    It knows no mask prompts without a batch axis, and it chooses the mask by the number of points:
    the best of three for up to two of them, else mask 0.
    """
    is_few = case.points + 2 * case.has_box <= 2
    choice = MaskChoice.BEST_OF_THREE if is_few else MaskChoice.SINGLE
    return case.mode is not MaskPromptMode.TRIDENT and case.choice is choice


def decode(session: InferenceSession, inputs: Mapping[str, Tensor]) -> tuple[Array, Array]:
    """The published `sam.onnx` on the inputs of `contract.SAM_MASK_DECODER`, prompt by prompt.

    Masks (N, 1, 256, 256) and predicted IoUs (N, 1). The choice of mask is its own: see `decodes`.
    """
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    has_mask = feeds["mask_prompt_mode"] != MaskPromptMode.NONE
    outputs = [
        session.run(
            ["low_res_masks", "iou_predictions"],
            {
                "image_embeddings": feeds["image_embedding"],
                "point_coords": coords[None],
                "point_labels": labels[None],
                "mask_input": feeds["mask_prompts"][index][None],
                "has_mask_input": has_mask.astype(np.float32),
                "orig_im_size": np.array([64, 64], np.float32),  # of a mask that is not used
            },
        )
        for coords, labels, index in zip(
            feeds["point_coords"], feeds["point_labels"], feeds["mask_index"], strict=True
        )
    ]
    masks, ious = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    return masks, ious
