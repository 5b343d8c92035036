"""The data sets of a run, from a JSON file.

[
  {
    "name": "CamVid val, a small head",
    "images": "camvid/images", "truth": "camvid/labels", "ignore_label": 11,
    "logits": "head/logits", "activation": "softmax"
  },
  {
    "name": "CamVid val, truth averaged over cells of 7.5 pixels",
    "images": "camvid/images", "truth": "camvid/labels", "ignore_label": 11,
    "classes": 11, "averaged_over_px": 7.5, "every": 4
  }
]

Paths are relative to the file. `every` takes each so-manieth image, by name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sam_refine_client.inputs.images import find_images
from sam_refine_client.reading.labels import LABEL_SUFFIXES, load_labels
from sam_refine_client.reading.notes import Notes
from sam_refine_quality import Sample, find_samples


@dataclass(frozen=True)
class DataSet:
    """Images with truth, and coarse scores of a network or made of the truth."""

    name: str
    images: Path
    truth: Path
    ignore_label: int | None = None
    logits: Path | None = None
    activation: str | None = None
    classes: int = 0
    """How many, where scores are made of the truth."""
    averaged_over_px: float = 0.0
    """The side of a cell, where scores are made of the truth: as a network of this stride would
    give them that errs nowhere else."""
    every: int = 1

    def samples(self) -> Sequence[Sample]:
        """Its images, read; raises as `find_samples` does."""
        if self.logits is not None:
            found = find_samples(self.images, self.logits, self.truth, activation=self.activation)
            return [each.read() for each in found[:: self.every]]
        made = []
        for image in find_images(self.images)[:: self.every]:
            truth = load_labels(image.companion(self.truth, LABEL_SUFFIXES), Notes()).values
            scores = averaged(truth, self.classes, self.averaged_over_px)
            made.append(Sample(str(image.path), image.path, scores, truth))
        return made


def read_data_sets(path: Path) -> list[DataSet]:
    """Raises `ValueError` for a file that is something else."""
    listed = json.loads(path.read_text(encoding="utf-8"))
    known = {field.name for field in fields(DataSet)}
    for each in listed:
        if unknown := each.keys() - known:
            raise ValueError(f"{path}: {sorted(unknown)[0]} is no key of a data set")
        if ("logits" in each) == ("averaged_over_px" in each):
            raise ValueError(f"{path}: {each['name']} must have either logits or averaged_over_px")
    return [
        DataSet(**{name: _value(path, name, value) for name, value in each.items()})
        for each in listed
    ]


def _value(path: Path, name: str, value: Any) -> Any:
    return path.parent / value if name in ("images", "truth", "logits") else value


def averaged(truth: npt.NDArray[Any], classes: int, side_px: float) -> npt.NDArray[np.float32]:
    """Truth (H, W) averaged over cells: (C, h, w). Void counts for each class alike."""
    is_class = torch.from_numpy(np.arange(classes)[:, None, None] == truth).float()
    is_void = is_class.sum(dim=0) == 0
    is_class[:, is_void] = 1 / classes
    height, width = (max(1, round(side / side_px)) for side in truth.shape)
    cells: npt.NDArray[np.float32] = torch.nn.functional.adaptive_avg_pool2d(
        is_class, (height, width)
    ).numpy()
    return cells
