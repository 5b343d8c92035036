"""A coarse map in the form that the client takes, made from whatever the page was given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_client import RefineResult
from sam_refine_client.arrays import Labels
from sam_refine_client.files.colours import MAX_COLOURS
from sam_refine_ui.coarse.soft_scores import scores_of_labels


@dataclass(frozen=True)
class CoarseMap:
    """Scores, and labels if these are not the argmax of the scores.

    The classes of a label map are renumbered without gaps: a mask of 0 and 255 has two.
    """

    scores: npt.NDArray[Any]
    """(C, h, w)."""
    labels: Labels | None = None
    """(H, W) in [0, C), or C for pixels that are ignored."""
    class_ids: tuple[int, ...] | None = None
    """The original ids of classes 0 to C - 1, and of C for ignored pixels; None: the same."""

    @classmethod
    def of_labels(cls, labels: Labels, ignore_label: int | None = None) -> CoarseMap:
        """The map of a label map (H, W).

        Raises `InvalidRequestError` if it has more than 256 classes, or none.
        """
        ids = [label for label in np.unique(labels).tolist() if label != ignore_label]
        if not 1 <= len(ids) <= MAX_COLOURS:
            raise InvalidRequestError(
                f"a label map must have 1 to {MAX_COLOURS} different labels, got {len(ids)}"
            )
        index = np.full(int(labels.max()) + 1, len(ids), np.int32)
        index[ids] = np.arange(len(ids))
        class_ids = ids if ignore_label is None else [*ids, ignore_label]
        numbered = index[labels]
        return cls(scores_of_labels(numbered, len(ids)), numbered, tuple(class_ids))

    def options(self, options: RefineOptions) -> RefineOptions:
        """The options with the `ignore_label` that this map needs."""
        is_ignoring = self.class_ids is not None and len(self.class_ids) > len(self.scores)
        return replace(options, ignore_label=len(self.scores)) if is_ignoring else options

    def named(self, result: RefineResult) -> RefineResult:
        """The result with the original class ids; it must have both maps and the regions."""
        if self.class_ids is None:
            return result
        ids = np.array(self.class_ids, np.int32)
        assert result.labels is not None
        assert result.coarse_labels is not None
        assert result.regions is not None
        return replace(
            result,
            labels=ids[result.labels],
            coarse_labels=ids[result.coarse_labels],
            regions=tuple(
                replace(region, class_id=self.class_ids[region.class_id])
                for region in result.regions
            ),
        )
