import re
from itertools import product

import pytest
import torch
from torch import nn

from sam_refine_export import ExportError, Model
from sam_refine_export.networks.tiny_vit import WindowAttention
from sam_refine_export.variants import load_checkpoint
from sam_refine_export.weights.mobile_sam_checkpoint import offset_indices

PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
INDICES = "image_encoder.layers.2.blocks.5.attn.attention_bias_idxs"  # windows of 14 x 14
CLASSIFIER = ("image_encoder.head.", "image_encoder.norm_head.")


def unfold(convolution, generator):
    """A convolution without bias and a batch norm with random statistics that compute the same."""
    width = len(convolution.bias)
    mean, gain = torch.randn(2, width, generator=generator, dtype=torch.float64)
    gain += gain.sign() / 2  # of both signs, never near zero
    variance = torch.rand(width, generator=generator, dtype=torch.float64) * 3 + 0.05
    scale = gain / (variance + 1e-5).sqrt()
    return {
        "c.weight": convolution.weight.double() / scale[:, None, None, None],
        "bn.weight": gain,
        "bn.bias": convolution.bias.double() + mean * scale,
        "bn.running_mean": mean,
        "bn.running_var": variance,
        "bn.num_batches_tracked": torch.tensor(77),
    }


@pytest.fixture(scope="module")
@torch.no_grad()
def state(mobile_sam):
    """MobileSAM's real parameters as `mobile_sam.pt` holds its own: same keys, same shapes."""
    generator = torch.Generator().manual_seed(0)
    state = {f"{p}.{k}": v for p in PARTS for k, v in getattr(mobile_sam, p).state_dict().items()}
    for name, module in mobile_sam.image_encoder.named_modules(prefix="image_encoder"):
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            del state[f"{name}.weight"], state[f"{name}.bias"]
            state |= {f"{name}.{k}": v for k, v in unfold(module, generator).items()}
        elif isinstance(module, WindowAttention):
            # the pairs of a window's first place have every offset once, in the layout's order
            state[f"{name}.attention_biases"] = state.pop(f"{name}.pair_bias")[:, 0]
    classifier = {
        "norm_head.weight": (320,),
        "norm_head.bias": (320,),
        "head.weight": (1000, 320),
        "head.bias": (1000,),
    }
    state |= {f"image_encoder.{key}": torch.ones(shape) for key, shape in classifier.items()}
    return {
        key.replace("patch_embed.", "patch_embed.seq."): (
            tensor.float().clone() if tensor.is_floating_point() else tensor
        )
        for key, tensor in state.items()
    }


def unchanged(state):
    """As published."""


@pytest.fixture(scope="module")
def save(state, tmp_path_factory):
    """save(change) -> the path of a checkpoint that differs from MobileSAM's by `change`.

    It is the same path each time: pytest keeps what tests write, and a checkpoint is 40 MB.
    """
    path = tmp_path_factory.mktemp("checkpoint") / "mobile_sam.pt"

    def write(change=unchanged):
        changed = dict(state)
        change(changed)
        torch.save(changed, path)
        return path

    return write


def indices(side):
    """The layout by its definition: offsets are numbered as they first turn up."""
    places = list(product(range(side), repeat=2))
    number = {}
    pairs = [
        number.setdefault((abs(y1 - y2), abs(x1 - x2)), len(number))
        for (y1, x1), (y2, x2) in product(places, places)
    ]
    return torch.tensor(pairs).view(side**2, side**2)


def add_indices(state):
    for key in [key for key in state if key.endswith("attention_biases")]:
        side = 14 if ".layers.2." in key else 7
        state[key.replace("attention_biases", "attention_bias_idxs")] = indices(side)


def drop_optional(state):
    for key in list(state):
        if key.startswith(CLASSIFIER) or key.endswith(".num_batches_tracked"):
            del state[key]


def wrap(state):
    """As DistributedDataParallel saves a fine-tuned one."""
    for key in list(state):
        state[f"module.{key}"] = state.pop(key)


def other_classes(state):
    state[f"{CLASSIFIER[0]}weight"] = torch.ones(7, 320)


def close(actual, expected, tolerance):
    return (actual - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("change", [unchanged, add_indices, drop_optional, other_classes, wrap])
def test_load_mobile_sam_checkpoint_unfolded_gives_its_parameters(mobile_sam, save, change):
    _, networks = load_checkpoint(Model.MOBILE, save(change))
    for part in PARTS:
        expected = getattr(mobile_sam, part).state_dict()
        network = getattr(networks, part)
        assert not network.training
        assert network.state_dict().keys() == expected.keys()
        for key, tensor in network.state_dict().items():
            assert close(tensor, expected[key], 1e-5), key


def test_load_mobile_sam_checkpoint_unfolded_gives_its_embedding(mobile_sam, save):
    _, networks = load_checkpoint(Model.MOBILE, save())
    # 208: grids of 52, 26 and 13, none of them a multiple of its window
    x = torch.randn(1, 3, 208, 208, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert close(networks.image_encoder(x), mobile_sam.image_encoder(x), 1e-4)


def test_load_mobile_sam_checkpoint_half_precision_gives_float32(mobile_sam, save):
    def halve(state):
        state.update({key: tensor.half() for key, tensor in state.items()})

    _, networks = load_checkpoint(Model.MOBILE, save(halve))
    weight = networks.image_encoder.neck[0].weight
    assert weight.dtype == networks.image_encoder.patch_embed[0].weight.dtype == torch.float32
    assert close(weight, mobile_sam.image_encoder.neck[0].weight, 1e-3)


@pytest.mark.parametrize(
    "keys",
    [
        [
            "image_encoder.patch_embed.seq.0.c.weight",
            "image_encoder.patch_embed.seq.2.bn.bias",
            "image_encoder.layers.0.blocks.1.conv3.bn.running_mean",
            "image_encoder.layers.0.downsample.conv1.c.weight",
            "image_encoder.layers.1.downsample.conv2.bn.running_var",
        ],
        [
            "image_encoder.layers.1.blocks.0.attn.attention_biases",
            "image_encoder.layers.2.blocks.5.attn.norm.weight",
            "image_encoder.layers.2.blocks.5.attn.qkv.weight",
            "image_encoder.layers.2.blocks.5.attn.proj.bias",
            "image_encoder.layers.3.blocks.1.local_conv.bn.weight",
        ],
        [
            "image_encoder.layers.3.blocks.1.mlp.norm.bias",
            "image_encoder.layers.3.blocks.1.mlp.fc1.weight",
            "image_encoder.neck.3.bias",
            "prompt_encoder.no_mask_embed.weight",
            "mask_decoder.iou_token.weight",
        ],
    ],
)
def test_load_mobile_sam_checkpoint_missing_keys_are_refused_by_name(save, keys):
    path = save(lambda state: [state.pop(key) for key in keys])
    message = re.escape(f"does not fit MobileSam: missing: {', '.join(keys)}") + "$"
    with pytest.raises(ExportError, match=message):
        load_checkpoint(Model.MOBILE, path)


def test_load_mobile_sam_checkpoint_unknown_keys_are_refused_by_name(save):
    keys = [
        "image_encoder.patch_embed.0.weight",
        "image_encoder.layers.0.blocks.0.conv1.c.bias",
        "image_encoder.layers.0.blocks.0.attention_bias_idxs",
        "image_encoder.layers.2.blocks.5.attn.pair_bias",
        "mask_decoder.seventh_token.weight",
    ]
    path = save(lambda state: state.update({key: torch.zeros(1) for key in keys}))
    message = re.escape(f"does not fit MobileSam: unknown: {', '.join(keys)}") + "$"
    with pytest.raises(ExportError, match=message):
        load_checkpoint(Model.MOBILE, path)


def test_load_mobile_sam_checkpoint_other_shapes_are_refused_by_name(save):
    def reshape(state):
        state["image_encoder.patch_embed.seq.0.c.weight"] = torch.zeros(48, 3, 3, 3)
        state["image_encoder.layers.0.downsample.conv2.bn.running_var"] = torch.zeros(96)
        state["image_encoder.layers.1.blocks.0.attn.attention_biases"] = torch.zeros(4, 144)
        state[INDICES] = torch.zeros(49, 49)
        state["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)

    message = (
        "does not fit MobileSam: of another shape: "
        "image_encoder.patch_embed.seq.0.c.weight (48, 3, 3, 3) instead of (32, 3, 3, 3), "
        "image_encoder.layers.0.downsample.conv2.bn.running_var (96,) instead of (128,), "
        "image_encoder.layers.1.blocks.0.attn.attention_biases (4, 144) instead of (4, 49), "
        f"{INDICES} (49, 49) instead of (196, 196), "
        "mask_decoder.iou_token.weight (1, 7) instead of (1, 256)"
    )
    with pytest.raises(ExportError, match=re.escape(message) + "$"):
        load_checkpoint(Model.MOBILE, save(reshape))


def test_load_mobile_sam_checkpoint_other_indices_are_refused_by_their_name(save):
    def swap(state):
        add_indices(state)
        state[INDICES] = indices(14).flip(0)

    with pytest.raises(ExportError, match=rf"{re.escape(INDICES)} lays the attention biases out"):
        load_checkpoint(Model.MOBILE, save(swap))


@pytest.mark.usefixtures("small_vit_b")
def test_load_mobile_sam_checkpoint_of_sam_vit_is_refused_in_words(small_checkpoint):
    message = r"small\.pth does not fit mobile: this is a checkpoint of vit_b \(--model vit_b\)$"
    with pytest.raises(ExportError, match=message):
        load_checkpoint(Model.MOBILE, small_checkpoint)


def test_offset_indices_of_two_by_two_are_those_drawn_by_hand():
    drawn = [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
    assert offset_indices(2).tolist() == drawn


@pytest.mark.parametrize("side", [7, 14])
def test_offset_indices_number_offsets_as_they_first_turn_up(side):
    assert torch.equal(offset_indices(side), indices(side))
