"""MobileSAM's PyTorch networks, recovered whole from its published ONNX graphs.

An ONNX export keeps the names of parameters that it uses unchanged and renames those that it had to
change: linear weights come transposed as `onnx::MatMul_<n>`, convolutions with a batch norm folded
in as `onnx::Conv_<n>`, and so on. The numbers ascend in the order in which the network runs, and
our networks define their submodules in that order. The files are checked by their sha256, so this
code need not cope with any others.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sam_refine_export.networks.sam_networks import (
    SamNetworks,
    load_state,
    new_mask_decoder,
    new_prompt_encoder,
)
from sam_refine_export.networks.tiny_vit import TinyViT, WindowAttention


def load_mobile_sam(encoder_onnx: Path, sam_onnx: Path) -> SamNetworks:
    """The networks behind the published `encoder.onnx` and `sam.onnx`, in evaluation mode."""
    networks = SamNetworks(TinyViT(), new_prompt_encoder(), new_mask_decoder())
    _load_image_encoder(networks.image_encoder, encoder_onnx)
    _load_prompt_encoder_and_mask_decoder(networks, sam_onnx)
    return networks.eval()


def _load_image_encoder(encoder: nn.Module, encoder_onnx: Path) -> None:
    graph = onnx.load(encoder_onnx).graph
    state = _named(graph)

    convolutions = _unnamed(encoder, nn.Conv2d, state)
    keys = [f"{name}.{kind}" for name in convolutions for kind in ("weight", "bias")]
    state |= _zip(keys, _renamed(graph, "Conv"))

    linears = [f"{name}.weight" for name in _unnamed(encoder, nn.Linear, state)]
    state |= _zip(linears, [weight.T for weight in _renamed(graph, "MatMul")])

    neck_norms = ["neck.1.weight", "neck.1.bias", "neck.3.weight", "neck.3.bias"]
    state |= _zip(neck_norms, [tensor.flatten() for tensor in _renamed(graph, "Mul", "Add")])

    attentions = [n for n, module in encoder.named_modules() if isinstance(module, WindowAttention)]
    state |= _zip([f"{name}.pair_bias" for name in attentions], _pair_biases(graph))
    load_state(encoder, state, encoder_onnx)


def _load_prompt_encoder_and_mask_decoder(networks: SamNetworks, sam_onnx: Path) -> None:
    graph = onnx.load(sam_onnx).graph
    parts = nn.ModuleDict(
        {"prompt_encoder": networks.prompt_encoder, "mask_decoder": networks.mask_decoder}
    )
    state = _named(graph)

    linears = [f"{name}.weight" for name in _unnamed(parts, nn.Linear, state)]
    state |= _zip(linears, [weight.T for weight in _renamed(graph, "MatMul")])

    norms_and_no_mask = [
        "prompt_encoder.mask_downscaling.1.weight",
        "prompt_encoder.mask_downscaling.1.bias",
        "prompt_encoder.mask_downscaling.4.weight",
        "prompt_encoder.mask_downscaling.4.bias",
        "prompt_encoder.no_mask_embed.weight",
        "mask_decoder.output_upscaling.1.weight",
        "mask_decoder.output_upscaling.1.bias",
    ]
    state |= _zip(norms_and_no_mask, [t.flatten() for t in _renamed(graph, "Mul", "Add")])
    state["prompt_encoder.no_mask_embed.weight"] = state["prompt_encoder.no_mask_embed.weight"][
        None
    ]

    (output_tokens,) = _renamed(graph, "Expand")  # (1, 5, 256): predicted IoU, four masks
    state["mask_decoder.iou_token.weight"] = output_tokens[0, :1]
    state["mask_decoder.mask_tokens.weight"] = output_tokens[0, 1:]
    load_state(parts, state, sam_onnx)


def _named(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """Parameters that kept their name, without the `model.` of those that the export wrapped."""
    return {
        tensor.name.removeprefix("model."): _tensor(tensor)
        for tensor in graph.initializer
        if not tensor.name.startswith("onnx::")
    }


def _renamed(graph: onnx.GraphProto, *operators: str) -> list[Tensor]:
    """Parameters named `onnx::<operator>_<n>`, by ascending n."""
    numbered = {}
    for tensor in graph.initializer:
        operator, _, number = tensor.name.removeprefix("onnx::").rpartition("_")
        if tensor.name.startswith("onnx::") and operator in operators:
            numbered[int(number)] = _tensor(tensor)
    return [numbered[number] for number in sorted(numbered)]


def _pair_biases(graph: onnx.GraphProto) -> list[Tensor]:
    """Attention biases (heads, tokens, tokens): the only constants of rank 3, in order of use."""
    constants = [node.attribute[0].t for node in graph.node if node.op_type == "Constant"]
    return [_tensor(constant) for constant in constants if len(constant.dims) == 3]


def _unnamed(network: nn.Module, kind: type[nn.Module], named: dict[str, Tensor]) -> list[str]:
    """Layers of one kind, in order, whose weight is not among the named parameters."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, kind) and f"{name}.weight" not in named
    ]


def _zip(keys: list[str], tensors: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip(keys, tensors, strict=True))


def _tensor(proto: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(proto).copy())
