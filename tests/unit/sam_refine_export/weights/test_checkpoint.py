import pickle
from collections import OrderedDict
from contextlib import suppress

import pytest
import torch

from sam_refine_export import ExportError
from sam_refine_export.networks.sam_networks import new_sam
from sam_refine_export.weights.checkpoint import load_checkpoint, read_state

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
        load_checkpoint("vit_b", path)


def test_load_checkpoint_of_the_smallest_size_says_so(small_checkpoint):
    with pytest.raises(ExportError, match=r"does not fit vit_l: this is a .* of vit_b \(--model v"):
        load_checkpoint("vit_l", small_checkpoint)


def test_load_checkpoint_of_mobile_sam_says_so(tmp_path):
    path = tmp_path / "mobile_sam.pt"
    torch.save({"image_encoder.patch_embed.seq.0.c.weight": torch.ones(32, 3, 3, 3)}, path)
    with pytest.raises(ExportError, match=r"this is a checkpoint of mobile \(--model mobile\)$"):
        load_checkpoint("vit_b", path)


def change_dtype(dtype):
    def change(state):
        for key, tensor in state.items():
            state[key] = tensor.to(dtype)

    return change


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_load_checkpoint_other_floating_dtype_becomes_float32(small_checkpoint, tmp_path, dtype):
    path = save_changed(small_checkpoint, tmp_path / "cast.pth", change_dtype(dtype))
    state = torch.load(small_checkpoint, weights_only=True)
    networks = load_checkpoint("vit_b", path)
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
    message = rf"other\.pth has parameters of no floating dtype: mask_decoder\.\S+ {name}$"
    with pytest.raises(ExportError, match=message):
        load_checkpoint("vit_b", path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1.0, float("nan")]),
        torch.tensor([float("-inf")], dtype=torch.float16),
        torch.tensor([1e300], dtype=torch.float64),
    ],
)
def test_read_state_values_that_are_not_finite_are_refused_by_key(tmp_path, tensor):
    path = tmp_path / "wild.pth"
    torch.save({"fine": torch.ones(3), "count": torch.tensor(3), "wild": tensor}, path)
    message = r"wild\.pth has values that are not finite in float32: wild$"
    with pytest.raises(ExportError, match=message):
        read_state(path)


def test_read_state_keeps_every_dtype_and_empty_tensors(tmp_path):
    path = tmp_path / "mixed.pth"
    state = {"a": torch.ones(3).half(), "b": torch.tensor(3), "c": torch.zeros(0, 4)}
    torch.save(state, path)
    read = read_state(path)
    assert read.keys() == state.keys()
    for key, tensor in state.items():
        assert read[key].dtype == tensor.dtype
        assert torch.equal(read[key], tensor)


@pytest.fixture
def damaged(tmp_path):
    """A checkpoint with one bit flipped in the middle of its only large tensor."""
    path = tmp_path / "damaged.pth"
    torch.save({"a": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_read_state_damaged_tensor_is_refused_though_torch_takes_it(damaged):
    tensor = torch.load(damaged, weights_only=True)["a"]
    assert (tensor != 1).sum() == 1
    message = r"^\S+/damaged\.pth is damaged: its record damaged/data/0 has another checksum$"
    with pytest.raises(ExportError, match=message):
        read_state(damaged)


def test_read_state_file_without_checksums_is_read(tmp_path):
    path = tmp_path / "unchecked.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(1000)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_state(path)["a"], torch.ones(1000))


def test_read_state_file_of_before_zip_archives_is_read(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(path)["a"], torch.ones(1000))


def test_read_state_damaged_anywhere_is_refused_or_read_right(tmp_path):
    path = tmp_path / "some.pth"
    state = {"a": torch.full((20,), 0.5), "b.c": torch.ones(3)}
    torch.save(state, path)
    content = path.read_bytes()
    for position in range(0, content.index(b"PK\x01\x02"), 37):  # up to the table of contents
        changed = bytes([content[position] ^ 0x55])
        path.write_bytes(content[:position] + changed + content[position + 1 :])
        with suppress(ExportError):  # and no other error
            read = read_state(path)
            assert all(torch.equal(read[key], tensor) for key, tensor in state.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_read_state_cut_anywhere_is_refused(tmp_path, zipped):
    path = tmp_path / "some.pth"
    torch.save({"a": torch.ones(20)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in range(0, len(content), 37):
        path.write_bytes(content[:size])
        with pytest.raises(ExportError, match=r"some\.pth cannot be read as a PyTorch checkpoint$"):
            read_state(path)


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


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"model": {"a": torch.zeros(1)}},
        {1: torch.zeros(1)},
        {"sparse": torch.zeros(3).to_sparse()},
        {"without_values": torch.zeros(3, device="meta")},
    ],
)
def test_load_checkpoint_other_content_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ExportError, match="holds no plain mapping of names to tensors"):
        load_checkpoint("vit_b", path)
