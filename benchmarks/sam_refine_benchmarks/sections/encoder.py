"""The image encoder: ours, MobileSAM's published graph, PyTorch, the limit."""

from __future__ import annotations

import numpy as np
import torch

from sam_refine.service.images import to_canvas
from sam_refine_benchmarks.measuring import operations
from sam_refine_benchmarks.measuring.pairs import interleave
from sam_refine_benchmarks.measuring.results import Result, faster, limit_claim
from sam_refine_benchmarks.setting import Setting
from sam_refine_benchmarks.sides import inputs, ours, straight
from sam_refine_benchmarks.sides.networks import (
    exported_networks,
    published_encoder,
    pytorch_networks,
)

LARGEST_DIFFERENCE = 1e-2


def run(setting: Setting) -> Result:
    """One image of 1024 x 768; normalisation and padding are part of our graph only."""
    exported = exported_networks(setting.model_repository)
    networks = pytorch_networks()
    published = operations.session(published_encoder())
    image = inputs.photo(768, 1024)
    canvas, canvas_size = to_canvas(image)
    pixels = straight.normalise(image)

    def by_pytorch() -> object:
        with torch.inference_mode():
            return networks.image_encoder(pixels).numpy()

    def by_published() -> object:
        return published.run(None, {"input": pixels.numpy()})[0]

    def by_ours() -> object:
        return exported.embed(canvas, canvas_size)

    embedding = np.asarray(by_ours())
    difference = max(float(np.abs(embedding - side()).max()) for side in (by_pytorch, by_published))
    if difference > LARGEST_DIFFERENCE:
        raise RuntimeError(f"the encoders differ by {difference:.2g} in their embeddings")
    multiply_adds = ours.encoder_multiply_adds(exported, image)
    timings = interleave(
        {
            "straight": by_pytorch,
            "published": by_published,
            "ours": by_ours,
            "matrix product": operations.matrix_product(),
        },
        setting.budget_s(30, 6),
    )
    product = timings["matrix product"]
    limit_s = operations.limit_s(multiply_adds, product)
    return Result(
        claims=(
            faster("image encoder: PyTorch", timings["straight"], timings["ours"]),
            faster("image encoder: published graph", timings["published"], timings["ours"]),
            limit_claim("image encoder: arithmetic limit", limit_s, timings["ours"], product, None),
        ),
        data={
            "largest_embedding_difference": difference,
            "multiply_adds": multiply_adds,
            "gflop": 2 * multiply_adds / 1e9,
            "matrix_product_gflops": operations.gigaflops(product),
            "limit_s": limit_s,
            "timings": {name: timing.to_json() for name, timing in timings.items()},
        },
    )
