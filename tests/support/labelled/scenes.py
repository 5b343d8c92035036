"""Small labelled images, and a SAM that knows what is in them: for judges to learn from."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from sam_refine.contract import EMBEDDING_SHAPE, MASK_SIDE, POINT_POSITIVE
from sam_refine_client import Embedding
from sam_refine_quality import Sample

SIZE = (64, 96)
CLASSES = 3
"""Background, squares, discs."""
VOID = 255


def scene(number: int) -> np.ndarray:
    """Truth (H, W) uint8: a square and a disc somewhere, and a strip of void."""
    random = np.random.default_rng(number)
    rows, columns = np.indices(SIZE)
    truth = np.zeros(SIZE, np.uint8)
    top, left, side = random.integers((6, 4, 18), (30, 26, 26))
    truth[top : top + side, left : left + side] = 1
    y, x, radius = random.integers((20, 66, 9), (44, 80, 14))
    truth[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 2
    truth[:2] = VOID
    return truth


def picture(truth: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: every class in a colour of its own."""
    colours = np.zeros((256, 3), np.uint8)
    colours[:CLASSES] = [(200, 190, 170), (160, 30, 30), (20, 60, 150)]
    return colours[np.where(truth == VOID, 0, truth)]


def blurred_scores(truth: np.ndarray, number: int) -> np.ndarray:
    """(C, h, w) float32 probabilities at stride 8, a little wrong everywhere."""
    known = np.where(truth == VOID, 0, truth)
    one_hot = (np.arange(CLASSES)[:, None, None] == known).astype(np.float32)
    cells = one_hot.reshape(CLASSES, SIZE[0] // 8, 8, SIZE[1] // 8, 8).mean(axis=(2, 4))
    noise = np.random.default_rng(1000 + number).random(cells.shape, np.float32)
    scores = cells + 0.2 * noise
    return (scores / scores.sum(axis=0)).astype(np.float32)


def samples(count: int, first: int = 0) -> list[Sample]:
    made = []
    for number in range(first, first + count):
        truth = scene(number)
        scores = blurred_scores(truth, number)
        made.append(Sample(f"scene {number}", picture(truth), scores, truth))
    return made


class SceneSam:
    """A client whose SAM draws what is under a prompt's point, in four ways.

    The single mask is the thing itself, `shifted` so many pixels to the right; the others are the
    prompt's box, half of the thing, and nothing.
    """

    def __init__(self, shifted: int = 0) -> None:
        self._shifted = shifted
        self._pictures: list[np.ndarray] = []

    @contextmanager
    def same_image(self):
        yield

    def embed(self, image, *, timeout_s=None):
        values = np.full((1, *EMBEDDING_SHAPE), len(self._pictures), np.float32)
        self._pictures.append(image)
        return Embedding(values, image.shape[:2])

    def draw_masks(self, embedding, prompts, *, timeout_s=None):
        pixels = self._pictures[int(embedding.values[0, 0, 0, 0])].astype(np.int32)
        height, width = prompts["low_res_size"]
        scale = MASK_SIDE / max(SIZE)
        rows, columns = (
            np.minimum(((np.arange(size) + 0.5) / scale).astype(int), side - 1)
            for size, side in zip((height, width), SIZE, strict=True)
        )
        masks = np.full((len(prompts["point_coords"]), 4, height, width), -6, np.float32)
        for mask, coords, labels in zip(
            masks, prompts["point_coords"], prompts["point_labels"], strict=True
        ):
            (x, y), *_ = coords[labels == POINT_POSITIVE] / 1024 * max(SIZE)
            same = (pixels == pixels[min(int(y), SIZE[0] - 1), min(int(x), SIZE[1] - 1)]).all(2)
            same = np.roll(same, self._shifted, axis=1)[np.ix_(rows, columns)]
            mask[0][same] = 6
            (left, top), (right, bottom) = (coords[labels != POINT_POSITIVE] / 4).astype(int)
            mask[1, top : bottom + 1, left : right + 1] = 6
            mask[2][same & (np.arange(width) % 2 == 0)] = 6
        ious = np.broadcast_to(np.float32([0.9, 0.7, 0.5, 0.1]), masks.shape[:2]).copy()
        return masks, ious
