import pytest
import torch

from sam_refine_export import ExportError
from sam_refine_export.networks.sam_networks import new_sam
from sam_refine_export.weights.nesting import network_in
from sam_refine_export.weights.other_networks import require_sam

VIT_B = dict(new_sam("vit_b").state_dict())
ENCODER = {name: tensor for name, tensor in VIT_B.items() if name.startswith("image_encoder.")}
DECODER = {name: tensor for name, tensor in VIT_B.items() if name.startswith("mask_decoder.")}
PROMPTS = {name: tensor for name, tensor in VIT_B.items() if name.startswith("prompt_encoder.")}


def named(*names):
    return dict.fromkeys(names, torch.ones(1))


def bare(part):
    return {name.partition(".")[2]: tensor for name, tensor in part.items()}


def test_require_sam_lets_each_size_pass(tmp_path):
    for size in ("vit_b", "vit_l", "vit_h"):
        require_sam(new_sam(size).state_dict(), tmp_path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            VIT_B
            | named("mask_decoder.hf_token.weight", "mask_decoder.compress_vit_feat.0.weight"),
            r"is HQ-SAM, .* \(mask_decoder\.hf_token\.weight\): export the SAM that it was",
        ),
        (
            named("mask_decoder.hf_token.weight", "mask_decoder.hf_mlp.layers.0.weight"),
            "is HQ-SAM",
        ),
        (VIT_B | named("mask_decoder.hq_token.weight"), "is HQ-SAM"),
        (
            named("image_encoder.trunk.pos_embed", "sam_mask_decoder.iou_token.weight"),
            r"is SAM 2 \(or 2\.1\), another network than SAM .*: export a published one",
        ),
        (named("memory_attention.layers.0.norm1.weight"), "is SAM 2"),
        (named("vision_encoder.backbone.pos_embed", "mask_decoder.iou_token.weight"), "is SAM 2"),
        (
            named(
                "detector.backbone.vision_backbone.trunk.pos_embed",
                "tracker.sam_mask_decoder.iou_token.weight",
            ),
            "is SAM 3, another network than SAM",
        ),
        (
            named("detector_model.mask_decoder.x", "tracker_model.mask_decoder.iou_token.weight"),
            "is SAM 3",
        ),
        (named("vision_encoder.neck.fpn_layers.0.weight", "mask_decoder.iou_token.x"), "is SAM 3"),
        (
            VIT_B | named("prompt_encoder.bbox_top_left_embeddings.weight"),
            r"is EfficientSAM, .*: export MobileSAM, which is as small \(--model mobile\)",
        ),
        (
            named("image_encoder.backbone.stages.0.op_list.0.x") | DECODER | PROMPTS,
            r"is EfficientViT-SAM, or a MobileSAMv2 .*: export MobileSAM, which is as small",
        ),
        (named("image_encoder.features.0.0.c.weight") | DECODER | PROMPTS, "is EdgeSAM or RepViT"),
        (
            named("base_model.model.image_encoder.blocks.0.attn.qkv.lora_A.default.weight"),
            r"holds weights of LoRA, which change a SAM .*: merge them .* merge_and_unload",
        ),
        (named("w_a_000", "w_b_000") | DECODER, "holds weights of LoRA"),
        (
            VIT_B | named("image_encoder.blocks.0.attn.qkv.linear_a_q.weight"),
            "holds weights of LoRA",
        ),
        (
            VIT_B | named("image_encoder.blocks.0.MLP_Adapter.D_fc1.weight"),
            "is a SAM with adapters, layers that SAM does not have",
        ),
        (
            VIT_B | named("image_encoder.prompt_generator.shared_mlp.weight"),
            "is a SAM with adapters",
        ),
        (named("model.0.conv.weight", "model.22.cv2.0.0.conv.weight"), "is a YOLO "),
        (
            named("layer1.0.conv1.weight", "fc.weight"),
            r"has no SAM in it: layer1\.0\.conv1\.weight, f",
        ),
        (named("patch_embed.proj.weight", "head.weight"), "has no SAM in it"),
        (
            DECODER,
            "holds SAM's mask decoder only, no image encoder and prompt encoder: put it into",
        ),
        (bare(DECODER), "holds SAM's mask decoder only"),
        (DECODER | PROMPTS, "holds SAM's prompt encoder and mask decoder only, no image encoder: "),
        (ENCODER, "holds SAM's image encoder only, no prompt encoder and mask decoder"),
        (bare(ENCODER), "holds SAM's image encoder only"),
        (
            VIT_B | {"image_encoder.pos_embed": torch.ones(1, 16, 16, 768)},
            r"is a SAM for images of 256 pixels \(image_encoder\.pos_embed .*: these graphs take",
        ),
        (
            VIT_B | {"image_encoder.pos_embed": torch.ones(1, 32, 48, 768)},
            "is a SAM for images of 512 x 768 pixels",
        ),
    ],
)
def test_require_sam_says_what_another_network_is(tmp_path, state, message):
    path = tmp_path / "mine.pth"
    state = {name: torch.ones(1).expand(tensor.shape) for name, tensor in state.items()}
    with pytest.raises(ExportError, match=rf"/mine\.pth {message}"):
        require_sam(network_in({"model": state}, path), path)
