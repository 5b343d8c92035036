import pytest
import torch

from sam_refine_export import ExportError, Model
from sam_refine_export.networks.sam_networks import new_sam
from sam_refine_export.variants import load_checkpoint

pytestmark = pytest.mark.usefixtures("small_vit_b")


def save_changed(small_checkpoint, path, change):
    state = torch.load(small_checkpoint, weights_only=True)
    change(state)
    torch.save(state, path)
    return path


def test_load_checkpoint_fitting_gives_its_parameters(small_checkpoint):
    _, networks = load_checkpoint(Model.VIT_B, small_checkpoint)
    state = torch.load(small_checkpoint, weights_only=True)
    for name in ("image_encoder", "prompt_encoder", "mask_decoder"):
        network = getattr(networks, name)
        assert not network.training
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, state[f"{name}.{key}"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("mask_decoder.iou_token.weight"),
            r"does not fit Sam: missing: mask_decoder\.iou_token\.weight$",
        ),
        (
            lambda state: state.update(extra=torch.zeros(1)),
            "does not fit Sam: unknown: extra$",
        ),
        (
            lambda state: state.update({"prompt_encoder.no_mask_embed.weight": torch.zeros(1, 7)}),
            r"of another shape: prompt_encoder\.no_mask_embed\.weight \(1, 7\) instead of \(1, 256",
        ),
        (
            lambda state: [state.pop(key) for key in list(state)[:9]],
            r"missing: image_encoder\.pos_embed, (\S+ ){4}and 4 more$",
        ),
    ],
)
def test_load_checkpoint_not_fitting_is_refused_by_key(small_checkpoint, tmp_path, change, message):
    path = save_changed(small_checkpoint, tmp_path / "changed.pth", change)
    with pytest.raises(ExportError, match=message):
        load_checkpoint(Model.VIT_B, path)


def test_load_checkpoint_of_another_size_says_of_which(tmp_path):
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in new_sam("vit_l").state_dict().items()}
    path = tmp_path / "large.pth"
    torch.save({key: torch.ones(1).expand(shape) for key, shape in shapes.items()}, path)
    assert path.stat().st_size < 1e6  # each tensor is one stored number
    message = (
        r"^\S+/large\.pth does not fit vit_b: this is a checkpoint of vit_l \(--model vit_l\)$"
    )
    with pytest.raises(ExportError, match=message):
        load_checkpoint(Model.VIT_B, path)


def test_load_checkpoint_of_the_smallest_size_says_so(small_checkpoint):
    with pytest.raises(ExportError, match=r"does not fit vit_l: this is a .* of vit_b \(--model v"):
        load_checkpoint(Model.VIT_L, small_checkpoint)


def test_load_checkpoint_without_a_model_takes_the_one_it_is_of(small_checkpoint):
    assert load_checkpoint(None, small_checkpoint)[0] is Model.VIT_B


def test_load_checkpoint_of_an_unknown_encoder_is_refused(small_checkpoint, tmp_path):
    def deepen(state):
        state["image_encoder.blocks.7.norm1.weight"] = torch.ones(32)

    path = save_changed(small_checkpoint, tmp_path / "deep.pth", deepen)
    message = (
        r"deep\.pth is a SAM with an image encoder that is none of the known: MobileSAM, SAM V"
    )
    for model in (None, Model.VIT_B):
        with pytest.raises(ExportError, match=message):
            load_checkpoint(model, path)


def test_load_checkpoint_of_mobile_sam_says_so(tmp_path):
    path = tmp_path / "mobile_sam.pt"
    names = ("image_encoder.layers.0", "prompt_encoder.no_mask_embed", "mask_decoder.iou_token")
    torch.save({f"{name}.weight": torch.ones(1) for name in names}, path)
    with pytest.raises(ExportError, match=r"this is a checkpoint of mobile \(--model mobile\)$"):
        load_checkpoint(Model.VIT_B, path)


def change_dtype(dtype):
    def change(state):
        for key, tensor in state.items():
            state[key] = tensor.to(dtype)

    return change


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_load_checkpoint_other_floating_dtype_becomes_float32(small_checkpoint, tmp_path, dtype):
    path = save_changed(small_checkpoint, tmp_path / "cast.pth", change_dtype(dtype))
    state = torch.load(small_checkpoint, weights_only=True)
    _, networks = load_checkpoint(Model.VIT_B, path)
    for key, tensor in networks.mask_decoder.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[f"mask_decoder.{key}"].to(dtype).float())


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.int8, "int8"), (torch.bool, "bool"), (torch.complex64, "complex64")]
)
def test_load_checkpoint_no_floating_dtype_is_refused(small_checkpoint, tmp_path, dtype, name):
    key = "mask_decoder.iou_token.weight"
    path = save_changed(
        small_checkpoint,
        tmp_path / "other.pth",
        lambda state: state.update({key: state[key].to(dtype)}),
    )
    message = rf"other\.pth has parameters that are not floating-point: mask_decoder\.\S+ {name}$"
    with pytest.raises(ExportError, match=message):
        load_checkpoint(Model.VIT_B, path)
