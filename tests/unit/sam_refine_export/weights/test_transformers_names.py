"""transformers' own `SamModel` is the reference: what it saves is read, and computes the same."""

import re

import pytest
import torch

from sam_refine_export import ExportError, ExportOptions
from sam_refine_export.networks.sam_networks import new_sam
from sam_refine_export.variants import load_checkpoint
from sam_refine_export.weights.transformers_names import is_of_transformers, sam_names

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_vit_b")]


@pytest.fixture(scope="module")
def sam_model():
    """A small one of random parameters, as `small_vit_b` is."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(2)
    encoder = {
        "hidden_size": 32,
        "mlp_dim": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "global_attn_indexes": [1],
    }
    model = SamModel(SamConfig(vision_config=encoder)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_load_checkpoint_of_transformers_computes_what_its_sam_model_does(sam_model, tmp_path):
    sam_model.save_pretrained(tmp_path)
    path = ExportOptions(checkpoint=tmp_path).checkpoint
    assert path == tmp_path / "model.safetensors"
    _, networks = load_checkpoint(None, path)

    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(1, 3, 1024, 1024, generator=generator)
    points = torch.tensor([[[[200.0, 300.0], [700.0, 650.0]]]])
    with torch.no_grad():
        expected = sam_model(pixels, input_points=points, input_labels=torch.tensor([[[1, 0]]]))
        embeddings = networks.image_encoder(pixels)
        sparse, dense = networks.prompt_encoder((points[0], torch.tensor([[1, 0]])), None, None)
        positions = networks.prompt_encoder.get_dense_pe()
        masks, ious = networks.mask_decoder(embeddings, positions, sparse, dense, True)
    wanted = sam_model.get_image_embeddings(pixels)
    assert wanted.std() > 0.1
    torch.testing.assert_close(embeddings, wanted, rtol=0, atol=1e-4)
    assert expected.pred_masks.std() > 0.1
    torch.testing.assert_close(masks, expected.pred_masks[:, 0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ious, expected.iou_scores[:, 0], rtol=1e-3, atol=1e-3)


def test_load_checkpoint_of_transformers_reads_both_kinds_of_file(sam_model, tmp_path):
    sam_model.save_pretrained(tmp_path)
    torch.save(sam_model.state_dict(), tmp_path / "pytorch_model.bin")  # as it was until 2023
    new, old = (
        load_checkpoint(None, tmp_path / name)[1]
        for name in ("model.safetensors", "pytorch_model.bin")
    )
    for part in ("image_encoder", "prompt_encoder", "mask_decoder"):
        expected = getattr(new, part).state_dict()
        for name, tensor in getattr(old, part).state_dict().items():
            assert torch.equal(tensor, expected[name])


def test_load_checkpoint_of_transformers_heeds_its_processor(sam_model, tmp_path):
    from transformers import SamImageProcessor

    sam_model.save_pretrained(tmp_path)
    SamImageProcessor().save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()
    load_checkpoint(None, tmp_path / "model.safetensors")
    SamImageProcessor(image_mean=[0.5, 0.5, 0.5]).save_pretrained(tmp_path)
    message = r"normalised in another way: its pixel_mean is 127\.5, 127\.5, 127\.5, SAM's 123\.675"
    with pytest.raises(ExportError, match=message):
        load_checkpoint(None, tmp_path / "model.safetensors")


def test_sam_names_are_all_those_of_segment_anything(sam_model, tmp_path):
    state = sam_model.state_dict()
    expected = new_sam("vit_b").state_dict()
    renamed = sam_names(state, tmp_path)
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert is_of_transformers(state)
    assert not is_of_transformers(expected)


def test_sam_names_positions_that_differ_are_refused(tmp_path):
    state = {
        "shared_image_embedding.positional_embedding": torch.zeros(2, 128),
        "prompt_encoder.shared_embedding.positional_embedding": torch.ones(2, 128),
    }
    message = re.escape("two different tensors for prompt_encoder.pe_layer.positional_encoding")
    with pytest.raises(ExportError, match=message):
        sam_names(state, tmp_path)
