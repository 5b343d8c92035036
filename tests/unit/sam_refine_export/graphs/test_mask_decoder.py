import pytest
import torch

from sam_refine.contract import MaskChoice, MaskPromptMode
from sam_refine_export.graphs.mask_decoder import MaskDecoder, MaskPromptEncoder, PointEncoder
from sam_refine_export.validation import reference


def prompts(n=3, k=2, points=1, box=True, mode=MaskPromptMode.SAM, choice=MaskChoice.SINGLE,
            side=(64, 128)):  # fmt: skip
    """Random inputs but the embedding, for a canvas and mask prompts of the given sizes."""
    random = torch.Generator().manual_seed(n + 10 * k + 100 * points)
    size_xy = torch.tensor(side[::-1])
    coords = torch.rand(n, points + 2 * box, 2, generator=random) * size_xy
    labels = torch.randint(-1, 2, (n, points), generator=random).float()
    if box:
        labels = torch.cat([labels, torch.tensor([[2.0, 3.0]]).expand(n, 2)], dim=1)
    height, width = (size // 4 for size in side)
    return {
        "point_coords": coords,
        "point_labels": labels,
        "mask_prompts": torch.randn(k, 1, height, width, generator=random),
        "mask_index": torch.randint(0, k, (n,), generator=random),
        "mask_prompt_mode": torch.tensor([mode]),
        "mask_choice": torch.tensor([choice]),
        "iou_threshold": torch.tensor([-torch.inf]),
        "low_res_size": torch.tensor([256, 256]),
    }


@torch.no_grad()
def assert_equal_to_sam(networks, embedding, inputs, tolerance):
    decoder = MaskDecoder(networks.prompt_encoder, networks.mask_decoder).eval()
    masks, ious = decoder(embedding, **inputs)
    expected_masks, expected_ious = reference.decode(networks, embedding, **inputs)
    if inputs["mask_choice"] != MaskChoice.ALL:
        expected_masks, expected_ious = reference.choose(expected_masks, expected_ious)
    assert masks.shape == expected_masks.shape
    assert ious.shape == expected_ious.shape
    assert (masks - expected_masks).abs().max() < tolerance
    assert (ious - expected_ious).abs().max() < 1e-5
    return masks


@pytest.fixture(scope="module")
def small_embedding():
    return torch.randn(1, 32, 4, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("choice", MaskChoice)
@pytest.mark.parametrize("mode", MaskPromptMode)
@pytest.mark.parametrize("n", [1, 7, 32])
@pytest.mark.parametrize(("points", "box"), [(1, False), (0, True), (1, True), (2, True)])
def test_mask_decoder_random_sam_equals_segment_anything(
    small_decoder, small_embedding, n, points, box, mode, choice
):
    inputs = prompts(n, 3, points, box, mode, choice)
    assert_equal_to_sam(small_decoder, small_embedding, inputs, 1e-4)


@pytest.mark.parametrize("mode", MaskPromptMode)
def test_mask_decoder_real_weights_equals_segment_anything(mobile_sam, photo_embedding, mode):
    inputs = prompts(3, 2, mode=mode, choice=MaskChoice.BEST_OF_THREE, side=(1024, 1024))
    masks = assert_equal_to_sam(mobile_sam, photo_embedding, inputs, 1e-3)
    assert masks.abs().max() > 1


def test_mask_decoder_prompts_do_not_see_each_other(small_decoder, small_embedding):
    decoder = MaskDecoder(small_decoder.prompt_encoder, small_decoder.mask_decoder).eval()
    inputs = prompts(7, 3, choice=MaskChoice.ALL)
    masks, ious = decoder(small_embedding, **inputs)
    for i in range(7):
        alone = {
            **inputs,
            "point_coords": inputs["point_coords"][i : i + 1],
            "point_labels": inputs["point_labels"][i : i + 1],
            "mask_prompts": inputs["mask_prompts"][inputs["mask_index"][i]][None],
            "mask_index": torch.tensor([0]),
        }
        mask, iou = decoder(small_embedding, **alone)
        assert torch.allclose(mask[0], masks[i], atol=1e-5)
        assert torch.allclose(iou[0], ious[i], atol=1e-6)


def test_mask_decoder_equal_predicted_ious_takes_the_lowest_mask(small_decoder, small_embedding):
    decoder = MaskDecoder(small_decoder.prompt_encoder, small_decoder.mask_decoder).eval()
    last = decoder.chooser.iou_head.layers[-1]
    kept = last.weight.clone(), last.bias.clone()
    tokens = torch.randn(2, 4, 32)  # the predicted IoU's, and those of masks 1 to 3
    try:
        last.weight.data.zero_()
        last.bias.data.copy_(torch.tensor([9.0, 0.5, 0.7, 0.7]))
        choice = torch.tensor([MaskChoice.BEST_OF_THREE])
        filters, ious = decoder.chooser(tokens, decoder.chooser.looked_at(choice), choice)
    finally:
        last.weight.data, last.bias.data = kept
    assert torch.allclose(ious, torch.tensor(0.7))
    expected = small_decoder.mask_decoder.output_hypernetworks_mlps[2](tokens[:, 2])
    assert torch.allclose(filters[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("choice", MaskChoice)
def test_mask_decoder_threshold_returns_masks_of_greater_predicted_ious_only(
    small_decoder, small_embedding, choice
):
    decoder = MaskDecoder(small_decoder.prompt_encoder, small_decoder.mask_decoder).eval()
    inputs = prompts(7, 3, choice=choice)
    masks, ious = decoder(small_embedding, **inputs)
    for threshold in (ious.min(), ious.median(), ious.max()):
        kept, same_ious = decoder(
            small_embedding, **inputs | {"iou_threshold": threshold.reshape(1)}
        )
        assert torch.equal(same_ious, ious)
        assert kept.shape[1:] == masks.shape[1:]
        assert torch.allclose(kept, masks[ious[:, 0] > threshold], atol=1e-6)
    assert len(kept) == 0


@pytest.mark.parametrize("size", [(4, 4), (4, 16), (12, 8), (16, 4)])
def test_mask_decoder_low_res_size_returns_that_part_of_the_masks(
    small_decoder, small_embedding, size
):
    decoder = MaskDecoder(small_decoder.prompt_encoder, small_decoder.mask_decoder).eval()
    inputs = prompts(3, 2)
    masks, _ = decoder(small_embedding, **inputs)
    part, _ = decoder(small_embedding, **inputs | {"low_res_size": torch.tensor(size)})
    assert part.shape[2:] == size
    assert torch.allclose(part, masks[..., : size[0], : size[1]], atol=1e-6)


def test_mask_decoder_leaves_segment_anythings_modules_as_they_were(small_decoder):
    before = {k: v.clone() for k, v in small_decoder.mask_decoder.state_dict().items()}
    MaskDecoder(small_decoder.prompt_encoder, small_decoder.mask_decoder)
    after = small_decoder.mask_decoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@torch.no_grad()
def test_mask_prompt_encoder_trident_equals_a_mask_without_its_batch_axis(mobile_sam):
    masks = torch.randn(2, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    encoder = MaskPromptEncoder(mobile_sam.prompt_encoder)
    trident = sum(encoder(masks, torch.tensor([MaskPromptMode.TRIDENT])))
    sam = sum(encoder(masks, torch.tensor([MaskPromptMode.SAM])))
    for mask, tokens in zip(masks, trident, strict=True):
        _, dense = mobile_sam.prompt_encoder(points=None, boxes=None, masks=mask)  # (256, 64, 64)
        assert torch.allclose(tokens, dense.flatten(1).T, atol=1e-5)
    assert (trident - sam).abs().max() > 0.1


@torch.no_grad()
def test_mask_prompt_encoder_none_ignores_even_nan(mobile_sam):
    encoder = MaskPromptEncoder(mobile_sam.prompt_encoder)
    masks, mode = torch.full((1, 1, 256, 256), torch.nan), torch.tensor([MaskPromptMode.NONE])
    tokens = sum(encoder(masks, mode))
    expected = mobile_sam.prompt_encoder.no_mask_embed.weight
    assert torch.equal(tokens, expected.expand(1, 4096, 256))


@torch.no_grad()
def test_point_encoder_padding_has_the_same_token_wherever_it_is(mobile_sam):
    encoder = PointEncoder(mobile_sam.prompt_encoder)
    coords = torch.tensor([[[0.0, 0.0], [700.0, 3.0]]])
    tokens = encoder(coords, torch.tensor([[-1.0, -1.0]]))
    assert torch.equal(tokens[0, 0], tokens[0, 1])
    assert torch.equal(tokens[0, 0], mobile_sam.prompt_encoder.not_a_point_embed.weight[0])
