"""The coarse map of an image as the client sends it: of scores, of labels, or of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_client.arrays import Labels
from sam_refine_client.reading.arrays import ArrayLike
from sam_refine_client.reading.labels import LabelsLike, ReadLabels, read_labels
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.palettes import PaletteLike
from sam_refine_client.reading.scores import Activation, Scores, read_scores
from sam_refine_client.reading.soft_scores import scores_of_labels

MOST_CLASSES: Final = 256
"""Of a label map without scores: those of more are instances rather than classes."""
_SAMPLED: Final = 256
"""Places along each axis at which labels are held against scores."""
_FEW_AGREE: Final = 0.3
_MOST_AGREE: Final = 0.7


@dataclass(frozen=True, eq=False)
class CoarseMap:
    """Scores, and labels if these are not the argmax of the scores.

    The classes of labels without scores are renumbered without gaps for the way there.
    """

    scores: Scores
    """(C, h, w)."""
    labels: Labels | None = None
    """(H, W) in [0, C), or `sent_void`."""
    sent_void: int | None = None
    """The label of void on the way to the server; None: the caller's own, or none."""
    void: int | None = None
    """The label of void in what the caller gets; None if there is none."""
    class_ids: tuple[int, ...] | None = None
    """The caller's ids of classes 0 to C - 1; None: the same."""

    def options(self, options: RefineOptions) -> RefineOptions:
        """The caller's options, with the `ignore_label` that this map needs."""
        if self.labels is None:
            return options
        return replace(options, ignore_label=self.sent_void)

    def own(self, labels: Labels) -> Labels:
        """Labels that came back, by the caller's ids."""
        if self.class_ids is None and self.sent_void == self.void:
            return labels
        ids = self.class_ids or tuple(range(len(self.scores)))
        if self.sent_void is None or self.void is None:
            table = np.array(ids, np.int32)
        else:
            table = np.full(max(len(ids), self.sent_void + 1), self.void, np.int32)
            table[: len(ids)] = ids
            table[self.sent_void] = self.void
        return table[labels]

    def own_class(self, class_id: int) -> int:
        """The caller's id of a class."""
        return class_id if self.class_ids is None else self.class_ids[class_id]


def read_coarse_map(
    logits: ArrayLike | None,
    labels: LabelsLike | None,
    notes: Notes,
    *,
    size_hw: tuple[int, int],
    activation: Activation | str | None = None,
    palette: PaletteLike | None = None,
    ignore_label: int | None = None,
    classes: int | None = None,
    image_name: str | None = None,
) -> CoarseMap:
    """The coarse map of an image of (H, W): `read_scores` of logits, `read_labels` of labels.

    Labels without scores get soft ones (`scores_of_labels`). Their classes are those that are in
    the map, unless `classes` says how many there are. Raises `InvalidRequestError`, and `OSError`
    for a file that cannot be read.
    """
    if logits is None and labels is None:
        raise InvalidRequestError(
            "give logits, which are class scores (C, h, w), or labels (H, W), or both; got none"
        )
    if labels is None:
        if palette is not None:
            raise InvalidRequestError("palette goes with labels in colours, got no labels")
        alone = read_scores(logits, notes, size_hw=size_hw, activation=activation)
        if activation != Activation.NONE and _are_all_the_same(alone):
            notes.add(
                "logits are the same for all classes at each place: all of the coarse map is class "
                "0; where do they come from?"
            )
        return CoarseMap(alone)
    scores = None
    if logits is not None:
        scores = read_scores(logits, notes, size_hw=size_hw, activation=activation)
        classes = len(scores)
    elif activation not in (None, Activation.NONE):
        raise InvalidRequestError("activation goes with logits, got labels without scores")
    read = read_labels(
        labels,
        notes,
        size_hw=size_hw,
        palette=palette,
        void=ignore_label,
        classes=classes,
        image_name=image_name,
    )
    if classes is None:
        return _of_labels_alone(read, notes)
    values = read.values
    _check_in_classes(read, classes)
    if scores is None:
        scores = scores_of_labels(values, classes)
    else:
        _note_off_by_one(values, scores, read.void, notes)
    return CoarseMap(scores, values, read.void, read.void)


def _of_labels_alone(read: ReadLabels, notes: Notes) -> CoarseMap:
    ids = [label for label in np.unique(read.values).tolist() if label != read.void]
    if not 1 <= len(ids) <= MOST_CLASSES:
        hint = "; are they instances, not classes?" if ids else ""
        raise InvalidRequestError(
            f"labels without scores must have 1 to {MOST_CLASSES} different labels, got "
            f"{len(ids)}{hint}"
        )
    if len(ids) == 2 and ids[0] == 0 and ids[1] in (255, 65535):
        notes.add(f"labels of 0 and {ids[1]} are taken as a mask: two classes, and no void")
    if ids in ([255], [65535]):
        notes.add(f"labels are all {ids[0]}: taken as one class that fills the image, not as void")
    is_void = (
        np.zeros(read.values.shape, np.bool_) if read.void is None else (read.values == read.void)
    )
    numbered = np.searchsorted(ids, read.values).astype(np.int32)
    numbered[is_void] = len(ids)
    scores = scores_of_labels(numbered, len(ids))
    has_void = bool(is_void.any())
    class_ids = None if ids == list(range(len(ids))) else tuple(ids)
    return CoarseMap(scores, numbered, len(ids) if has_void else None, read.void, class_ids)


def _check_in_classes(read: ReadLabels, classes: int) -> None:
    """Raise `InvalidRequestError` for labels that are neither in [0, C) nor void."""
    values, ids = read.values, np.unique(read.values).tolist()
    wrong = [label for label in ids if not 0 <= label < classes and label != read.void]
    if wrong:
        hint = ""
        if wrong == [classes]:
            hint = "; if they count from 1, give labels.astype(int) - 1"
            hint += ", where 0 becomes -1, which is void" if ids[0] == 0 else ""
        pixels = int(np.isin(values, wrong).sum())
        raise InvalidRequestError(
            f"labels must lie in [0, {classes}), of which there are scores, or be ignore_label, "
            f"got {wrong[0]} ({pixels} pixels in all are outside){hint}"
        )


def _note_off_by_one(values: Labels, scores: Scores, void: int | None, notes: Notes) -> None:
    """Say where labels (H, W) are the argmax of the scores (C, h, w) but for counting from 1."""
    rows, columns = (
        np.linspace(0, size - 1, min(size, _SAMPLED)).round().astype(int)
        for size in scores.shape[1:]
    )
    argmax = scores[:, rows[:, None], columns].argmax(0)
    down, across = (
        (2 * places + 1) * size // (2 * count)
        for places, size, count in zip((rows, columns), values.shape, scores.shape[1:], strict=True)
    )
    labels = values[down[:, None], across]
    counted = (labels > 0) & (labels != void)
    if not counted.any() or len(np.unique(argmax[counted])) < 2:
        return
    agree, agree_from_1 = (labels == argmax)[labels != void], (labels - 1 == argmax)[counted]
    if agree.mean() < _FEW_AGREE and agree_from_1.mean() > _MOST_AGREE:
        notes.add(
            f"labels are the argmax of the logits at {agree.mean():.0%} of the pixels, labels - 1 "
            f"at {agree_from_1.mean():.0%}: if they count from 1, give labels.astype(int) - 1"
        )


def _are_all_the_same(scores: Scores) -> bool:
    """Whether all classes have the same score at each place; one place tells most that have not."""
    return bool((scores[:, 0, 0] == scores[0, 0, 0]).all() and (scores == scores[:1]).all())
