import numpy as np
import onnxruntime
import pytest
import torch

from sam_refine_export.validation import reference


def test_load_mobile_sam_image_encoder_equals_the_published_graph(
    mobile_sam, published, photo_canvas, photo_embedding
):
    seen = []
    mobile_sam.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    reference.encode(mobile_sam.image_encoder, *photo_canvas)
    session = onnxruntime.InferenceSession(published[0], providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": seen[0].numpy()})
    assert np.abs(photo_embedding.numpy() - expected).max() < 1e-5
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("has_mask", [False, True])
def test_load_mobile_sam_mask_decoder_equals_the_published_graph(
    mobile_sam, published, photo_embedding, has_mask
):
    session = onnxruntime.InferenceSession(published[1], providers=["CPUExecutionProvider"])
    coords = torch.tensor([[[500.0, 300.0], [200.0, 100.0], [900.0, 700.0]]])
    labels = torch.tensor([[1.0, 2.0, 3.0]])
    mask = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    _, expected_ious, expected_masks = session.run(
        ["masks", "iou_predictions", "low_res_masks"],
        {
            "image_embeddings": photo_embedding.numpy(),
            "point_coords": coords.numpy(),
            "point_labels": labels.numpy(),
            "mask_input": mask.numpy(),
            "has_mask_input": np.array([float(has_mask)], np.float32),
            "orig_im_size": np.array([64, 64], np.float32),
        },
    )
    # sam.onnx returns one mask: for more than a single point that is mask 0
    candidates = reference.decode(
        mobile_sam,
        image_embedding=photo_embedding,
        point_coords=coords,
        point_labels=labels,
        mask_prompts=mask,
        mask_index=torch.tensor([0]),
        mask_prompt_mode=torch.tensor([int(has_mask)]),
        mask_choice=torch.tensor([0]),
        iou_threshold=torch.tensor([0.0]),
        low_res_size=torch.tensor([256, 256]),
    )
    masks, ious = reference.choose(*candidates)
    assert np.abs(masks.numpy() - expected_masks).max() < 1e-3
    assert np.abs(ious.numpy() - expected_ious).max() < 1e-5
