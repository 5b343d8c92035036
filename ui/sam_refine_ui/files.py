"""A result as files to take away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam_refine_client import RefineResult
from sam_refine_client.pictures import UInt8, before_after, save_label_png
from sam_refine_ui.classes import class_name, palette
from sam_refine_ui.view import maps


def save(
    result: RefineResult, photo: UInt8, directory: Path, names: Sequence[str]
) -> tuple[Path, Path, Path]:
    """Write labels.png, before_after.png and result.npz into a directory; returns their paths.

    `result` has labels, coarse labels and regions. The arrays of result.npz: `labels` and
    `coarse_labels` (H, W) int32; one row for each region in `region_classes` (Q,) int32,
    `region_boxes_xyxy` (Q, 4) int32, `region_scores` and `region_predicted_ious` (Q,) float32,
    `region_kept` (Q,) bool.
    """
    coarse_labels, labels = maps(result)
    regions = result.regions or ()
    directory.mkdir(parents=True, exist_ok=True)
    paths = directory / "labels.png", directory / "before_after.png", directory / "result.npz"
    save_label_png(labels, paths[0], palette())
    count = 1 + max(int(labels.max()), int(coarse_labels.max()))
    class_names = [class_name(class_id, names) for class_id in range(count)]
    before_after(photo, coarse_labels, labels, class_names, palette()).save(paths[1])
    np.savez_compressed(
        paths[2],
        labels=labels,
        coarse_labels=coarse_labels,
        region_classes=np.array([region.class_id for region in regions], np.int32),
        region_boxes_xyxy=np.array([region.box_xyxy for region in regions], np.int32).reshape(
            -1, 4
        ),
        region_scores=np.array([region.score for region in regions], np.float32),
        region_predicted_ious=np.array([region.predicted_iou for region in regions], np.float32),
        region_kept=np.array([region.kept for region in regions], np.bool_),
    )
    return paths
