"""Shards of the demo's photo, each image with noise of its own: new to the server."""

from __future__ import annotations

import io
import secrets
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam_refine_benchmarks.measuring.machine import ROOT

DATA = ROOT / "cli/sam_refine_cli/demo_data/portrait"
RUN = secrets.randbits(64)
"""The images of another run, whose embeddings the server may have kept, are others."""


def photo(number: int) -> bytes:
    """A JPEG."""
    pixels = np.asarray(Image.open(DATA / "photo.jpg").convert("RGB")).astype(np.int16)
    noise = np.random.default_rng((RUN, number)).integers(-6, 7, pixels.shape)
    file = io.BytesIO()
    noisy = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file, format="JPEG", quality=92)
    return file.getvalue()


def job_of(number: int) -> dict[str, Any]:
    """Arguments of `RefineClient.refine`."""
    return {"image": photo(number), "logits": np.load(DATA / "coarse_scores.npy")}


def write_shard(path: Path, first: int, images: int) -> None:
    """A WebDataset tar of the images `first` to `first + images - 1`; its folder is made."""
    path.parent.mkdir(exist_ok=True)
    scores = (DATA / "coarse_scores.npy").read_bytes()
    with tarfile.open(path, "w") as tar:
        for number in range(first, first + images):
            for ending, content in (("jpg", photo(number)), ("logits.npy", scores)):
                info = tarfile.TarInfo(f"{number:08}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
