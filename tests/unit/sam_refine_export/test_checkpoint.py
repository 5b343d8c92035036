import pickle
from collections import OrderedDict

import pytest
import torch

from sam_refine_export import ExportError
from sam_refine_export.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("small_vit_b")


class Harmful:
    """What a checkpoint must not be able to do."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a checkpoint ran code')",))


def save_changed(small_checkpoint, path, change):
    state = torch.load(small_checkpoint, weights_only=True)
    change(state)
    torch.save(state, path)
    return path


def test_load_checkpoint_fitting_gives_its_parameters(small_checkpoint):
    networks = load_checkpoint("vit_b", small_checkpoint)
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
        load_checkpoint("vit_b", path)


def write_text(path):
    path.write_text("no checkpoint", encoding="utf-8")


def write_cut(path):
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:1000])


def write_code(path):
    path.write_bytes(pickle.dumps(OrderedDict(a=Harmful()), protocol=2))


@pytest.mark.parametrize("write", [write_text, write_cut, write_code])
def test_load_checkpoint_unreadable_file_is_refused(tmp_path, write):
    path = tmp_path / "bad.pth"
    write(path)
    with pytest.raises(ExportError, match=r"bad\.pth cannot be read as a PyTorch checkpoint"):
        load_checkpoint("vit_b", path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": torch.zeros(1)}}])
def test_load_checkpoint_other_content_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ExportError, match="holds no plain mapping of names to tensors"):
        load_checkpoint("vit_b", path)
