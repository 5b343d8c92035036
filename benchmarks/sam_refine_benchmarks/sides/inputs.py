"""What is measured on: the demo's photo, and coarse maps made up from it or from smooth noise.

Everything is the same on every machine.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from sam_refine.algorithm.prompts import Prompts
from sam_refine.contract import MASK_SIDE, MODEL_SIDE, MaskChoice, MaskPrompt
from sam_refine_cli.commands.demo import DEMO_DATA

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_SHARPNESS = 3.0
"""Of noise scores: the winner of a cell gets about half of the probability."""
_COLOUR_WIDTH = 0.1
"""Distance in RGB (0 to 1) at which a pixel stops to be of a colour's class."""
_SPREAD = 0x9E3779B97F4A7C15
_unseen = itertools.count(1)


def photo(height: int, width: int) -> UInt8:
    """The photo of a cup of coffee, cut to this shape and resized to it: RGB (height, width, 3)."""
    with Image.open(DEMO_DATA / "coffee" / "photo.jpg") as image:
        scale = min(image.width / width, image.height / height)
        left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
        box = (left, top, left + width * scale, top + height * scale)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.array(resized)


def unseen(image: UInt8) -> UInt8:
    """The image with its first pixels changed as in no other call: no cache can know it."""
    changed = np.array(image, order="C")
    number = next(_unseen) * _SPREAD % 2**64  # far apart, to differ after a resize too
    changed.reshape(-1)[:8] = np.frombuffer(number.to_bytes(8, "little"), np.uint8)
    return changed


def photo_scores(image: UInt8, classes: int, height: int, width: int) -> Float32:
    """Class probabilities (classes, height, width) that follow the colours of an image.

    Each class is one of the image's colours, the next always the one farthest from all before.
    """
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32).reshape(-1, 3) / 255
    distances = np.sum((pixels - pixels.mean(axis=0)) ** 2, axis=1)
    closest = np.full(len(pixels), np.inf, np.float32)
    logits = []
    for _ in range(classes):
        distances = np.sum((pixels - pixels[distances.argmax()]) ** 2, axis=1)
        logits.append(-distances / _COLOUR_WIDTH**2)
        closest = np.minimum(closest, distances)
        distances = closest
    return _softmax(np.stack(logits).reshape(classes, height, width))


def noise_scores(classes: int, height: int, width: int, cell: int) -> Float32:
    """Class probabilities (classes, height, width): blobs of about `cell` pixels."""
    random = np.random.default_rng(0)
    size = classes, -(-height // cell), -(-width // cell)
    return resized(_softmax(_SHARPNESS * random.standard_normal(size, np.float32)), height, width)


def resized(planes: Float32, height: int, width: int) -> Float32:
    """Planes (C, h, w) at another size, bilinear."""
    tensor = torch.from_numpy(planes)[None]
    size = height, width
    larger: Float32 = F.interpolate(tensor, size, mode="bilinear", align_corners=False)[0].numpy()
    return larger


def mask_logits(boxes_xyxy: npt.NDArray[np.int32], size_hw: tuple[int, int]) -> Float32:
    """Low-resolution masks (n, 256, 256) as SAM might give them: an ellipse in each box.

    The boxes lie on a map of `size_hw`; the ellipses are a little larger.
    """
    cells = np.arange(MASK_SIDE, dtype=np.float32) + 0.5
    scale = MASK_SIDE / max(size_hw)
    low, high = boxes_xyxy[:, :2] * scale, (boxes_xyxy[:, 2:] + 1) * scale
    centre, radius = (low + high) / 2, (high - low) / 2 * 1.1 + 1
    off = [(cells - centre[:, [axis]]) / radius[:, [axis]] for axis in (0, 1)]  # each (n, 256)
    distance = off[1][:, :, None] ** 2 + off[0][:, None, :] ** 2
    logits: Float32 = np.clip(8 * (1 - distance), -20, 8).astype(np.float32)
    return logits


def decoder_prompts(prompts: int, classes: int) -> Prompts:
    """Random prompts of a point and a box each, of whole masks whatever their IoU.

    Prompts of a class are neighbours; mask prompts are the probabilities of noise times 0.005.
    """
    random = np.random.default_rng(0)
    corners = np.sort(random.uniform(0, MODEL_SIDE, (prompts, 2, 2)), axis=1)
    points = corners.mean(axis=1, keepdims=True)
    return Prompts(
        point_coords=np.concatenate([points, corners], axis=1).astype(np.float32),
        point_labels=np.tile(np.array([1, 2, 3], np.float32), (prompts, 1)),
        mask_prompts=0.005 * noise_scores(classes, MASK_SIDE, MASK_SIDE, 32)[:, None],
        mask_index=np.arange(prompts) * classes // prompts,
        mask_prompt=MaskPrompt.SAM,
        choice=MaskChoice.SINGLE,
        iou_threshold=-np.inf,
        low_res_size=(MASK_SIDE, MASK_SIDE),
    )


def _softmax(logits: Float32) -> Float32:
    weights = np.exp(logits - logits.max(axis=0))
    probabilities: Float32 = (weights / weights.sum(axis=0)).astype(np.float32)
    return probabilities
