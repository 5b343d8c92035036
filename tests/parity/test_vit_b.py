"""The export of a SAM of Meta's own widths with random parameters, in every decoder case."""

from functools import partial
from itertools import product

import pytest
import torch

from sam_refine.contract import MaskChoice, MaskPromptMode
from sam_refine_export import ExportOptions, export_repository
from sam_refine_export.graphs.samples import DecoderCase
from sam_refine_export.networks.sam_modules import build_sam
from sam_refine_export.validation import validate

pytestmark = pytest.mark.slow

CASES = [
    DecoderCase(n, p - 2 * (p > 1), p > 1, 2, mode, MaskChoice((n + p + mode) % 3))
    for n, p, mode in product((1, 5), (1, 2, 3, 4), MaskPromptMode)
]
"""Instead of the export's own: more kinds of prompts, fewer of each."""


def build_some_of_vit_b():
    """Three of its twelve blocks, one of them global: the others are as these."""
    return build_sam._build_sam(
        encoder_embed_dim=768,
        encoder_depth=3,
        encoder_num_heads=12,
        encoder_global_attn_indexes=[2],
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    sam = build_some_of_vit_b()
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    path = tmp_path_factory.mktemp("checkpoint") / "random_vit_b.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def checks(checkpoint, tmp_path_factory):
    """What the export compared: values of both graphs and of PyTorch."""
    with pytest.MonkeyPatch.context() as patch:
        check = partial(validate.check_mask_decoder, cases=CASES)
        patch.setattr(validate, "check_mask_decoder", check)
        patch.setitem(build_sam.sam_model_registry, "vit_b", build_some_of_vit_b)
        options = ExportOptions("vit_b", checkpoint, max_batch_size=1)
        card = export_repository(tmp_path_factory.mktemp("vit_b") / "models", options)
    return card.validation.values


def test_export_vit_b_encoder_equals_pytorch(checks):
    encoded = [check for check in checks if check.output == "image_embedding"]
    assert [check.case for check in encoded] == ["batch 1"]  # larger ones: a small ViT's tests
    assert all(check.max_difference < 1e-3 for check in encoded)


def test_export_vit_b_decoder_equals_pytorch_for_all_prompts_and_modes(checks):
    decoded = [check for check in checks if check.output != "image_embedding"]
    assert len(decoded) == 2 * (len(CASES) + 4)  # four more of kept masks and of their choice
    assert all(check.max_difference < 1e-3 for check in decoded)
