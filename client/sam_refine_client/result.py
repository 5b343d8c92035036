"""What `refine` returns."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_refine.contract import Outcome
from sam_refine_client.arrays import Labels, UInt8
from sam_refine_client.files.saving import SaveFormat, check_names, save

if TYPE_CHECKING:
    from PIL import Image

    from sam_refine_client.reading.images import ImageLike


@dataclass(frozen=True)
class Region:
    """One region of the coarse map."""

    class_id: int
    box_xyxy: tuple[int, int, int, int]
    """x_min, y_min, x_max, y_max in image pixels, inclusive: cells of the working grid times r."""
    score: float
    """Mean coarse score."""
    predicted_iou: float
    """With a judge that of the mask that it found best."""
    kept: bool
    """Whether a mask of it was taken: one whose `predicted_iou` is above `iou_threshold`, or that a
    judge let pass."""
    outcome: Outcome
    """What became of it, and why it was left alone."""
    mask: int
    """With a judge, which of SAM's four masks was best, the single one being 0; else -1."""
    gain: float
    """With a judge, what it foretold of that mask; else 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome", Outcome(self.outcome))


@dataclass(frozen=True, eq=False, repr=False)
class RefineResult:
    """The outputs that the call asked for; the others are None. Notebooks show the maps."""

    labels: Labels | None
    """(H, W) refined map."""
    coarse_labels: Labels | None
    """(H, W) map that was refined."""
    logits: npt.NDArray[np.float32] | None
    """(C, H, W) refined class scores."""
    regions: tuple[Region, ...] | None
    """Every region of the coarse map, kept or failed, by class id, then raster order."""
    timings: dict[str, float]
    """Milliseconds on the server by stage of `sam_refine.contract.STAGES`."""
    request_id: str
    """The request's name in the server's log and traces."""
    warnings: tuple[str, ...] = ()
    """What was doubtful about the inputs, and how it was taken: a sentence each."""
    ignore_label: int | None = None
    """The label of void in the maps, if there is one."""
    class_ids: tuple[int, ...] | None = None
    """The class of each of the `logits`, where these are not 0, 1, ...: of labels without scores.
    """
    image: ImageLike | None = None
    """What was refined, as the caller gave it; None for an embedding. Not pickled with the result,
    unless it is a path."""

    @property
    def changed(self) -> npt.NDArray[np.bool_]:
        """(H, W) where the refined map differs from the coarse one.

        Raises `ValueError` if one of the two was not asked for.
        """
        if self.labels is None or self.coarse_labels is None:
            raise ValueError(
                'changed needs the outputs "labels" and "coarse_labels"; leave outputs out'
            )
        changed: npt.NDArray[np.bool_] = self.labels != self.coarse_labels
        return changed

    @property
    def changed_fraction(self) -> float:
        """The share of pixels that changed; raises as `changed` does."""
        return float(self.changed.mean())

    def save(
        self,
        directory: str | PathLike[str],
        *,
        formats: Collection[SaveFormat | str] | None = None,
        image: ImageLike | None = None,
        image_name: str | PathLike[str] | None = None,
        class_names: Sequence[str] | None = None,
        palette: UInt8 | None = None,
        ignore_label: int | None = None,
        stem: str | None = None,
    ) -> tuple[Path, ...]:
        """Write files into a directory, which is made if it is not there; returns their paths.

        `formats` are `SaveFormat`s or their values. By default these are labels, palette (if no
        label is above 255), regions, npz and, if `image` is given, before_after, as far as the
        result has the outputs for them. `image` is what was refined. `image_name` is COCO's
        `file_name`, by default the name of `image` if that is a path.

        `class_names` are the names of classes 0, 1, ...; every label needs one, except
        `ignore_label`, which is no class: it is left out of COCO's files and has no colour. By
        default it is the result's own.
        `palette` is (n, 3) uint8 RGB, by default `colours.class_palette`.

        With a `stem` the files of several results can lie in one directory: street.png are the
        labels of "street", street.regions.json its regions.

        No file is ever half written: if anything fails, those that were there before stay as they
        were. The files appear in the order of `formats`, by default with labels.png last.

        The arrays of result.npz: `labels` and `coarse_labels` (H, W) int32 and `logits` (C, H, W)
        float32, if the result has them; one row for each region in `region_classes` (Q,) int32,
        `region_boxes_xyxy` (Q, 4) int32, `region_scores` and `region_predicted_ious` (Q,) float32,
        `region_kept` (Q,) bool, `region_outcomes` and `region_masks` (Q,) int32 and `region_gains`
        (Q,) float32; `stages` and `stage_times_ms`; `request_id`.

        Raises `ValueError` for arguments that do not fit, or an output that was not asked for;
        `ModuleNotFoundError` if COCO's packages are missing; `OSError` if a file cannot be written.
        """
        return save(
            self,
            directory,
            formats=formats,
            image=image,
            image_name=image_name,
            class_names=class_names,
            palette=palette,
            ignore_label=self.ignore_label if ignore_label is None else ignore_label,
            stem=stem,
        )

    def overlay(
        self,
        image: ImageLike | None = None,
        *,
        class_names: Sequence[str] | None = None,
        palette: UInt8 | None = None,
        ignore_label: int | None = None,
    ) -> Image.Image:
        """The coarse and the refined map over the image, with a legend: `pictures.before_after`.

        `image` is what was refined, in any form that `refine` takes; by default the result's own,
        and where it has none, of an embedding, the maps are shown without it. A class without a
        name is called by its number, and `ignore_label` stays uncoloured. Raises `ValueError` if
        one of the maps was not asked for or the image does not fit, and `OSError` if it cannot be
        read.
        """
        from sam_refine_client.files.pictures import before_after, without_photo
        from sam_refine_client.reading.images import rgb_of

        if self.labels is None or self.coarse_labels is None:
            raise ValueError(
                'overlay needs the outputs "labels" and "coarse_labels"; leave outputs out'
            )
        if class_names is not None:
            check_names(class_names)
        image = self.image if image is None else image
        if image is None:
            return without_photo(self.coarse_labels, self.labels)
        ignore_label = self.ignore_label if ignore_label is None else ignore_label
        height, width = self.labels.shape
        return before_after(
            rgb_of(image, (height, width)),
            self.coarse_labels,
            self.labels,
            () if class_names is None else class_names,
            palette,
            ignore_label,
        )

    def __getstate__(self) -> dict[str, Any]:
        kept = isinstance(self.image, str | PathLike)
        return {**self.__dict__, "image": self.image if kept else None}

    def __repr__(self) -> str:
        parts = [
            f"{name} {' x '.join(map(str, array.shape))}"
            for name, array in vars(self).items()
            if isinstance(array, np.ndarray) and name != "image"
        ]
        if self.regions is not None:
            kept = sum(region.kept for region in self.regions)
            parts.append(f"{kept} of {len(self.regions)} regions kept")
        if self.warnings:
            parts.append(f"{len(self.warnings)} warnings")
        return f"<RefineResult: {', '.join([*parts, f'{sum(self.timings.values()):.0f} ms'])}>"

    def _repr_png_(self) -> bytes | None:
        """What notebooks show: the maps without the photo; None if there is no refined map."""
        from sam_refine_client.files.pictures import without_photo

        if self.labels is None:
            return None
        file = io.BytesIO()
        without_photo(self.coarse_labels, self.labels).save(file, format="PNG")
        return file.getvalue()
