import re

import pytest
import torch

from sam_refine_export import ExportError, Model
from sam_refine_export.variants import load_checkpoint
from sam_refine_export.weights.nesting import network_in

PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
PIXEL_MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
PIXEL_STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def prefixed(prefix):
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


def in_a_training(state):
    """What Adam and Lightning put beside a network."""
    moments = {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(7.0)}}
    return {
        "epoch": 3,
        "state_dict": prefixed("model.sam.")(state),
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-4}]}],
        "optimizer": {"state": moments, "param_groups": []},
        "callbacks": {"best": {"score": torch.tensor(0.9)}},
        "loss": torch.tensor(0.1),
    }


def in_parts(state):
    return {
        part: {
            name.removeprefix(f"{part}."): tensor
            for name, tensor in state.items()
            if name.startswith(part)
        }
        for part in PARTS
    }


def compiled_encoder(state):
    return {
        name.replace("image_encoder.", "image_encoder._orig_mod."): tensor
        for name, tensor in state.items()
    }


SAVED = {
    "plain": lambda state: state,
    "tuple": lambda state: (state, {"epoch": 3}),
    "model": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.1},
    "net": lambda state: {"net": state},
    "any_name": lambda state: {"run": {"best": {"weights": state}}},
    "training": in_a_training,
    "parts": in_parts,
    "parts_of_a_model": lambda state: {"model": in_parts(state)},
    "module": prefixed("module."),
    "model_": prefixed("model."),
    "sam": prefixed("sam."),
    "_orig_mod": prefixed("_orig_mod."),
    "nested": prefixed("module._orig_mod.model.sam."),
    "compiled_encoder": compiled_encoder,
    "pixels": lambda state: {**state, "pixel_mean": PIXEL_MEAN, "pixel_std": PIXEL_STD},
    "flat_pixels": lambda state: {**state, "pixel_mean": PIXEL_MEAN.flatten()},
    "half_pixels": lambda state: {
        name: tensor.bfloat16()
        for name, tensor in prefixed("sam.")({**state, "pixel_std": PIXEL_STD}).items()
    },
}


@pytest.fixture(scope="module")
def saved_path(tmp_path_factory):
    """The same path each time: pytest keeps what tests write, and a checkpoint is 17 MB."""
    return tmp_path_factory.mktemp("saved") / "mine.pth"


@pytest.mark.usefixtures("small_vit_b")
@pytest.mark.parametrize("save", SAVED.values(), ids=SAVED)
def test_load_checkpoint_however_saved_gives_its_parameters(small_checkpoint, saved_path, save):
    state = torch.load(small_checkpoint, weights_only=True)
    torch.save(save(state), saved_path)
    model, networks = load_checkpoint(None, saved_path)
    assert model is Model.VIT_B
    is_half = save is SAVED["half_pixels"]
    for part in PARTS:
        for name, tensor in getattr(networks, part).state_dict().items():
            expected = state[f"{part}.{name}"]
            assert torch.equal(tensor, expected.bfloat16().float() if is_half else expected)


SAM = {f"{part}.weight": torch.ones(2) for part in PARTS}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no mapping of names to tensors: save one, "),
        ({"epoch": 3}, "holds no mapping of names to tensors"),
        ({1: torch.zeros(1)}, "holds no mapping of names to tensors"),
        (
            {"model": SAM, "ema": {"module": SAM}},
            r"holds several networks: model, ema\.module\. Save the one that you mean: torch\.save"
            + re.escape("(torch.load('mine.pth')['ema']['module'], 'sam.pth')"),
        ),
        (
            {"state_dict": {**prefixed("student.")(SAM), **prefixed("module.teacher.")(SAM)}},
            r"holds several networks: student\., teacher\.\. Save the one that you mean: "
            + re.escape("torch.save({name: tensor for name, tensor in state.items() if name."),
        ),
        (
            {**SAM, **prefixed("ema.")(SAM)},
            r"holds several networks: the rest, ema\.\. Save the one",
        ),
        (
            {**SAM, "pixel_mean": torch.tensor([0.485, 0.456, 0.406])},
            ".* in another way: its pixel_mean is 0.485, 0.456, 0.406, SAM's 123.675, 116.28",
        ),
        ({**SAM, "pixel_std": torch.ones(1)}, ".* another way: its pixel_std is 1, SAM's 58.395, "),
        (
            {**SAM, "a": torch.zeros(3).to_sparse()},
            "has tensors that are sparse or without values: a$",
        ),
        ({**SAM, "a": torch.zeros(3, device="meta")}, ".* that are sparse or without values: a$"),
    ],
)
def test_network_in_what_holds_not_one_network_is_refused(tmp_path, content, message):
    with pytest.raises(ExportError, match=rf"mine\.pth {message}"):
        network_in(content, tmp_path / "mine.pth")


def test_network_in_keeps_what_lies_in_the_network_beside_sam(tmp_path):
    """`load_state` refuses it by its name."""
    state = {
        "sam.loss.weight": torch.ones(1),
        "head.weight": torch.ones(1),
        **prefixed("sam.")(SAM),
    }
    found = network_in({"state_dict": state, "ema_decay": torch.tensor(0.9)}, tmp_path)
    assert list(found) == ["loss.weight", "head.weight", *SAM]


def test_network_in_a_mapping_within_itself_ends(tmp_path):
    content: dict = {"model": SAM}
    content["again"] = content
    with pytest.raises(ExportError, match=r"several networks: model, again\.model, "):
        network_in(content, tmp_path / "mine.pth")


@pytest.mark.usefixtures("small_vit_b")
def test_load_checkpoint_with_more_than_sam_is_refused_by_name(small_checkpoint, saved_path):
    state = prefixed("sam.")(torch.load(small_checkpoint, weights_only=True))
    torch.save({"state_dict": {**state, "head.weight": torch.ones(1)}}, saved_path)
    with pytest.raises(ExportError, match=r"does not fit Sam: unknown: head\.weight$"):
        load_checkpoint(None, saved_path)
