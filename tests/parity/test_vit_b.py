"""The export of a SAM of Meta's own size with random parameters, in every decoder case."""

from itertools import product

import numpy as np
import onnxruntime
import pytest
import torch

from sam_refine.contract import MaskChoice, MaskPromptMode
from sam_refine_export import ExportOptions, Model, Precision, export_repository
from sam_refine_export.graphs.samples import DecoderCase
from sam_refine_export.networks.sam_modules import build_sam
from sam_refine_export.repository.repository import DECODER_ONNX
from sam_refine_export.validation.validate import TOLERANCES, check_mask_decoder
from sam_refine_export.variants import load_checkpoint

pytestmark = pytest.mark.slow

CASES = [
    DecoderCase(n, p - 2 * (p > 1), p > 1, 2, mode, MaskChoice((n + p + mode) % 3))
    for n, p, mode in product((1, 9), (1, 2, 3, 4), MaskPromptMode)
]
"""The export itself has been checked with 32 prompts, too."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    sam = build_sam.sam_model_registry["vit_b"]()
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    path = tmp_path_factory.mktemp("checkpoint") / "random_vit_b.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    output = tmp_path_factory.mktemp("vit_b") / "models"
    options = ExportOptions("vit_b", checkpoint, max_batch_size=1)
    return output, export_repository(output, options)


def test_export_vit_b_encoder_equals_pytorch(exported):
    _, card = exported
    checks = [c for c in card.validation.values if c.output == "image_embedding"]
    assert [check.case for check in checks] == ["batch 1"]  # larger ones: a small ViT's tests
    assert all(check.max_difference < 1e-3 for check in checks)


def test_export_vit_b_decoder_equals_pytorch_for_all_prompts_and_modes(exported, checkpoint):
    output, _ = exported
    networks = load_checkpoint(Model.VIT_B, checkpoint)
    session = onnxruntime.InferenceSession(
        output / DECODER_ONNX, providers=["CPUExecutionProvider"]
    )
    embedding = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(0))
    checks = list(
        check_mask_decoder(session, networks, embedding, TOLERANCES[Precision.FP32], CASES)
    )
    assert len(checks) == 2 * len(CASES)
    assert max(check.max_difference for check in checks) < 1e-3
    assert np.isfinite([check.max_difference for check in checks]).all()
