"""The calls of `sam_refine` that are measured, in one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_refine.contract import RefineOptions
from sam_refine.memory import free_memory_bytes
from sam_refine.merge import (
    RefinedMap,
    keep_coarse_where_empty,
    map_failed_regions,
    map_refinement,
)
from sam_refine.pipeline import Refinement
from sam_refine.pipeline import refine as refine_by_pipeline
from sam_refine.preprocess import to_canvas
from sam_refine.regions import Regions, split_regions
from sam_refine.resize import resize_nearest
from sam_refine.scores import ClassScores
from sam_refine_benchmarks.networks import ExportedNetworks

MANY_REGIONS = 2**20
"""Above every count that is measured."""

Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Decoded:
    """Regions and what SAM says of them."""

    regions: Regions
    low_res_logits: Float32
    """(Q, 256, 256)."""
    kept: npt.NDArray[np.bool_]
    """(Q,)."""


def split(labels_grid: Labels, scores_grid: Float32, options: RefineOptions) -> Regions:
    """SplitRegions."""
    return split_regions(labels_grid, scores_grid, options, MANY_REGIONS)


def merge(
    decoded: Decoded,
    scores_image: Float32,
    labels_image: Labels,
    options: RefineOptions,
    *,
    want_logits: bool,
) -> RefinedMap:
    """PostprocessMasks, MapRefinement, the fallback and MapFailedRegions."""
    kept, regions = decoded.kept, decoded.regions
    scores = ClassScores(scores_image, (scores_image.shape[1], scores_image.shape[2]))
    refined = map_refinement(
        decoded.low_res_logits[kept], regions.classes[kept], scores, want_logits=want_logits
    )
    refined = keep_coarse_where_empty(refined, labels_image)
    failed = resize_nearest(regions.mask_grid(~kept), scores.size_image)
    return map_failed_regions(refined, failed, scores, labels_image, options)


def refine(
    networks: ExportedNetworks,
    image: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float16] | Float32,
    options: RefineOptions,
) -> Refinement:
    """The whole algorithm in this process, as the server runs it; labels only."""
    return refine_by_pipeline(
        ClassScores(scores, (image.shape[0], image.shape[1])),
        None,
        options,
        embed=lambda: networks.embed(*to_canvas(image)),
        decode=lambda embedding, prompts: networks.decode(embedding, prompts.decoder_inputs()),
        free_memory_bytes=free_memory_bytes(),
    )
