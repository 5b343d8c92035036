"""The calls of `sam_refine` that are measured, in one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_refine.algorithm.merge import (
    FailedArea,
    KeptMasks,
    RefinedMap,
    fall_back,
    keep_ignored,
    map_failed_regions,
    map_refinement,
)
from sam_refine.algorithm.pipeline import Refinement
from sam_refine.algorithm.pipeline import refine as refine_by_pipeline
from sam_refine.algorithm.predict import Decode
from sam_refine.algorithm.prompts import Prompts
from sam_refine.algorithm.regions import Regions, split_regions
from sam_refine.algorithm.scores import ClassScores, GridScores
from sam_refine.contract import RefineOptions
from sam_refine.numerics.arrays import tiles
from sam_refine.service.images import to_canvas
from sam_refine.service.memory import free_memory_bytes
from sam_refine_benchmarks.measuring import operations
from sam_refine_client.transport.local_networks import Networks

MANY_REGIONS = 2**20
"""Above every count that is measured."""

Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Decoded:
    """Regions and what our decoder says of them."""

    regions: Regions
    kept: npt.NDArray[np.bool_]
    """(Q,)."""
    low_res_logits: Float32
    """(N, 256, 256), of the kept ones."""


def split(labels_grid: Labels, scores_grid: Float32, options: RefineOptions) -> Regions:
    """SplitRegions of a grid that is its own image: `scores_grid` are all of L_d."""
    size = labels_grid.shape[0], labels_grid.shape[1]
    scores = GridScores(ClassScores(scores_grid, size), size)
    return split_regions(labels_grid, scores, options, MANY_REGIONS)


def merge(
    decoded: Decoded,
    scores_image: Float32,
    labels_image: Labels,
    options: RefineOptions,
    *,
    want_logits: bool,
) -> RefinedMap:
    """PostprocessMasks, MapRefinement, the fallback and MapFailedRegions, as `pipeline.refine`."""
    kept, regions = decoded.kept, decoded.regions
    scores = ClassScores(scores_image, (scores_image.shape[1], scores_image.shape[2]))
    masks = KeptMasks.of(decoded.low_res_logits, regions.classes[kept], scores.size_image)
    failed = FailedArea.of(regions.mask_grid(~kept), scores, options)
    refined_map = RefinedMap.blank(scores, failed, want_logits=want_logits)
    for tile in tiles(scores.size_image, scores.values):
        coarse = labels_image[tile]
        refined = map_refinement(masks, scores, tile, want_scores=want_logits)
        refined = fall_back(refined, coarse)
        refined = map_failed_regions(refined, coarse, failed, scores, options)
        refined_map.put(keep_ignored(refined, coarse, options))
    return refined_map


def refine(
    networks: Networks,
    image: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float16] | Float32,
    options: RefineOptions,
    decode: Decode | None = None,
) -> Refinement:
    """The whole algorithm in this process, as the server runs it; labels only.

    `decode` stands in for the decoder of `networks`.
    """
    return refine_by_pipeline(
        ClassScores(scores, (image.shape[0], image.shape[1])),
        None,
        options,
        embed=lambda: networks.embed(*to_canvas(image)),
        decode=decode or networks.decode,
        free_memory_bytes=free_memory_bytes(),
    )


def encoder_multiply_adds(networks: Networks, image: npt.NDArray[np.uint8]) -> int:
    """Of the exported encoder on an image (H, W, 3)."""
    canvas, size_hw = to_canvas(image)
    feeds: operations.Feeds = {"canvas": canvas[None], "canvas_size": np.array([size_hw], np.int64)}
    return operations.count_multiply_adds(networks.encoder_onnx, feeds)


def decoder_multiply_adds(networks: Networks, embedding: Float32, prompts: Prompts) -> int:
    """Of the exported decoder on all prompts of one call."""
    feeds = {"image_embedding": embedding, **prompts.decoder_inputs()}
    return operations.count_multiply_adds(networks.decoder_onnx, feeds)
