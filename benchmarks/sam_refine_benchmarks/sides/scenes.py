"""Whole requests: the demo's photo at some size, with a coarse map made of its colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sam_refine.contract import FailedRegions, JudgeKind, MaskPrompt, RefineOptions
from sam_refine_benchmarks.sides import inputs
from sam_refine_client import RefineClient, RefineResult


@dataclass(frozen=True)
class Scene:
    """An image, its class scores, and the options of a request."""

    height: int
    width: int
    classes: int
    score_height: int
    score_width: int
    min_region_area: int
    half: bool = False
    """Scores in float16."""

    @property
    def size(self) -> str:
        return f"{self.height} x {self.width}"

    @property
    def options(self) -> RefineOptions:
        """Failed regions are as in the published code."""
        return RefineOptions(
            mask_prompt=MaskPrompt.SAM,
            iou_threshold=0.7,
            min_region_area=self.min_region_area,
            failed_regions=FailedRegions.SCORES_ONLY,
        )

    def image(self) -> inputs.UInt8:
        """RGB (H, W, 3)."""
        return inputs.photo(self.height, self.width)

    def scores(self) -> npt.NDArray[np.float16] | inputs.Float32:
        """Class probabilities (C, h, w)."""
        scores = inputs.photo_scores(
            self.image(), self.classes, self.score_height, self.score_width
        )
        return scores.astype(np.float16) if self.half else scores


CAMVID = Scene(360, 480, 11, 48, 64, min_region_area=100)
CITYSCAPES = Scene(1024, 2048, 19, 128, 256, min_region_area=400, half=True)
SMALL = Scene(360, 480, 11, 48, 64, min_region_area=900)
"""As CAMVID with few regions, for what is about many requests."""


def refine_unseen(
    client: RefineClient, scene: Scene, judge: JudgeKind = JudgeKind.NONE
) -> Callable[[], RefineResult]:
    """A request whose image was never seen before, each time it is run."""
    image, scores = scene.image(), scene.scores()
    options = replace(scene.options, judge=judge)

    def call() -> RefineResult:
        return client.refine(inputs.unseen(image), logits=scores, options=options)

    return call
