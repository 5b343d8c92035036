import pytest
import torch
from torch import nn

from sam_refine_export.graphs.rearranged_tiny_vit import RearrangedTinyViT
from sam_refine_export.networks.tiny_vit import TinyViT


@pytest.fixture(scope="module")
def network():
    """A TinyViT whose every parameter counts: fresh norms and biases are ones and zeros."""
    torch.manual_seed(0)
    network = TinyViT()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network.eval()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("side", [224, 256])  # 224 is a whole number of windows, 256 is padded
@pytest.mark.parametrize("batch_size", [1, 3])
def test_rearranged_tiny_vit_computes_what_tiny_vit_does(network, side, batch_size):
    x = torch.randn(batch_size, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = network(x)
    found = RearrangedTinyViT(network, side)(x)
    assert found.shape == expected.shape == (batch_size, 256, side // 16, side // 16)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_rearranged_tiny_vit_leaves_the_network_as_it_is(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rearranged = RearrangedTinyViT(network, 224)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
    assert not any(isinstance(module, TinyViT) for module in rearranged.modules())
    assert any(
        isinstance(module, nn.LayerNorm) and module.bias is None for module in rearranged.modules()
    )
