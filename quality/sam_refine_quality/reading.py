"""A labelled image as it is refined, and its truth: read by the client's own reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sam_refine.contract import InvalidRequestError
from sam_refine_client.reading.coarse_map import CoarseMap, read_coarse_map
from sam_refine_client.reading.images import ImageLike, image_name_of, read_image
from sam_refine_client.reading.labels import read_labels
from sam_refine_client.reading.notes import Notes
from sam_refine_quality.data.samples import Sample
from sam_refine_quality.metrics.truth import Truth


@dataclass(frozen=True, eq=False)
class ReadSample:
    """One labelled image, read."""

    sample: Sample
    image: ImageLike
    """A file's content, or pixels (H, W, 3)."""
    size_hw: tuple[int, int]
    truth: Truth
    notes: Notes
    _coarse: dict[int | None, CoarseMap]

    @classmethod
    def of(
        cls,
        sample: Sample,
        notes: Notes,
        *,
        classes: int | None,
        void: int | None,
        like: int | None = None,
    ) -> ReadSample:
        """`classes` is how many have names, `void` the truth's `ignore_label`.

        The images before have `like` classes, if there are such. Raises `InvalidRequestError`,
        `OSError`.
        """
        if sample.logits is None and classes is None:
            raise InvalidRequestError(
                "labels without scores do not say how many classes there are; give class_names"
            )
        shape: Any = sample.truth.shape
        image = read_image(sample.image, notes, like_hw=shape if len(shape) == 2 else None)
        coarse = _coarse_map(sample, image.size_hw, notes, classes, None)
        found = len(coarse.scores)
        if like not in (None, found):
            raise InvalidRequestError(
                f"logits must have {like} classes like the images before, got {found}"
            )
        truth = read_labels(
            sample.truth,
            notes,
            void=sample.truth_void if void is None else void,
            classes=found,
            name=sample.truth_name,
        )
        values = truth.values
        if values.shape != image.size_hw:
            raise InvalidRequestError(
                f"{sample.truth_name} must be {image.size_hw} like its image, got {values.shape}"
            )
        pixels: Any = image.file if image.pixels is None else image.pixels
        return cls(
            sample,
            pixels,
            image.size_hw,
            Truth.of(values, found, truth.void, sample.truth_name),
            notes,
            {None: coarse},
        )

    def coarse(self, ignore_label: int | None) -> CoarseMap:
        """The coarse map where the caller says which of its labels are void.

        Raises `InvalidRequestError`, `OSError`.
        """
        if ignore_label not in self._coarse:
            self._coarse[ignore_label] = _coarse_map(
                self.sample, self.size_hw, self.notes, self.truth.classes, ignore_label
            )
        return self._coarse[ignore_label]


def _coarse_map(
    sample: Sample,
    size_hw: tuple[int, int],
    notes: Notes,
    classes: int | None,
    ignore_label: int | None,
) -> CoarseMap:
    return read_coarse_map(
        sample.logits,
        sample.labels,
        notes,
        size_hw=size_hw,
        activation=sample.activation,
        palette=None if sample.labels is None else sample.palette,
        ignore_label=ignore_label,
        classes=classes,
        image_name=image_name_of(sample.image),
    )
