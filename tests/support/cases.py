"""Requests that cover Algorithm 4, cut from the demo's photo and its coarse scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam_refine.contract import RefineOptions
from support import exact

DEMO_DATA = Path(__file__).parents[2] / "cli/sam_refine_cli/demo_data/coffee"


@dataclass(frozen=True)
class Case:
    image: np.ndarray  # (H, W, 3) uint8
    scores: np.ndarray  # (C, h, w) float32 or float16
    options: RefineOptions
    labels: np.ndarray | None = None  # (H, W) int32

    @property
    def size_image(self) -> tuple[int, int]:
        height, width = self.image.shape[:2]
        return height, width


def photo(height: int, width: int) -> np.ndarray:
    with Image.open(DEMO_DATA / "photo.jpg") as image:
        return np.asarray(image.convert("RGB").resize((width, height)))


def coarse_scores() -> np.ndarray:
    """(C, h, w) float16 probabilities at stride 16."""
    return np.load(DEMO_DATA / "coarse_scores.npy")


def upsampled(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    return exact.interpolate(torch.as_tensor(scores, dtype=torch.float32), (height, width)).numpy()


def landscape(**options: object) -> Case:
    return Case(photo(240, 360), coarse_scores(), RefineOptions(**options))


def odd_size(**options: object) -> Case:
    image = photo(251, 367)
    scores = upsampled(coarse_scores(), 251, 367)
    return Case(image, scores, RefineOptions(**options))


def portrait(**options: object) -> Case:
    """A quarter turn; scores in single precision at stride 16."""
    image, scores = np.rot90(photo(200, 301)), np.rot90(coarse_scores(), axes=(1, 2))
    return Case(image.copy(), scores.astype(np.float32).copy(), RefineOptions(**options))


def mixed_sign(**options: object) -> Case:
    """Scores of both signs: classes whose best one is negative have no region."""
    scores = coarse_scores().astype(np.float32) - np.float32(0.5)
    return Case(photo(160, 240), scores, RefineOptions(**options))


def given_labels(**options: object) -> Case:
    """A map that is not the argmax, with a part that nobody labelled."""
    scores = coarse_scores()
    labels = upsampled(scores, 160, 240).argmax(axis=0).astype(np.int32)
    labels[20:60, 30:120] = (labels[20:60, 30:120] + 1) % len(scores)
    labels[:, -40:] = 255
    return Case(photo(160, 240), scores, RefineOptions(ignore_label=255, **options), labels)


def tiny(height: int, width: int, **options: object) -> Case:
    shares = np.random.default_rng(height).dirichlet(np.ones(3), (height, width))
    scores = np.moveaxis(shares, -1, 0).astype(np.float32).copy()
    return Case(photo(height, width), scores, RefineOptions(**options))


CASES: dict[str, Callable[[], Case]] = {
    "trident": lambda: landscape(),
    "sam": lambda: landscape(mask_prompt="sam", iou_threshold=0.6),
    "none": lambda: landscape(mask_prompt="none"),
    "reject_class": lambda: odd_size(
        confidence_threshold=0.5, min_region_area=4, failed_regions="scores_only"
    ),
    "odd_size": lambda: odd_size(mask_prompt="sam", failed_regions="compete"),
    "portrait": lambda: portrait(mask_prompt="none", failed_regions="keep_coarse"),
    "portrait_stride_3": lambda: portrait(downsample_ratio=3, multimask_output=True),
    "full_grid": lambda: landscape(downsample_ratio=1, mask_prompt_scale=1.0, iou_threshold=0.7),
    "negative_scores": lambda: mixed_sign(iou_threshold=0.5, failed_regions="scores_only"),
    "negative_scores_sam": lambda: mixed_sign(mask_prompt="sam", failed_regions="compete"),
    "given_labels": lambda: given_labels(min_region_area=10, failed_regions="keep_coarse"),
    "tiny": lambda: tiny(9, 7, iou_threshold=0.3, failed_regions="scores_only"),
    "tiny_strip": lambda: tiny(1, 23, iou_threshold=0.3),
    "tiny_pixel": lambda: tiny(1, 1, iou_threshold=0.0),
    "all_failed": lambda: landscape(iou_threshold=1.0, min_region_area=60),
    "none_found": lambda: landscape(confidence_threshold=0.9999),
}
