"""The exported networks in process, by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from sam_refine.prompts import Prompts


class Networks:
    """Image encoder and mask decoder of a model repository."""

    def __init__(self, repository: Path) -> None:
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(
                repository / model / "1" / "model.onnx", providers=["CPUExecutionProvider"]
            )
            for model in ("sam_image_encoder", "sam_mask_decoder")
        )

    def embed(self, canvas: np.ndarray, canvas_size: tuple[int, int]) -> np.ndarray:
        inputs = {"canvas": canvas[None], "canvas_size": np.array([canvas_size], np.int64)}
        return self._encoder.run(["image_embedding"], inputs)[0]

    def decode(self, embedding: np.ndarray, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
        inputs = {"image_embedding": embedding, **prompts.decoder_inputs()}
        low_res_logits, ious = self._decoder.run(["low_res_logits", "iou_predictions"], inputs)
        return low_res_logits, ious
